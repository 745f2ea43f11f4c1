"""Stage 3: decode every image once, and write down what is said of it."""

# Nothing is imported up here: the processes that decode images import this module too.


def main() -> None:
    """Write images.parquet, labels.parquet, classes.json and rejected.parquet."""
    from pathlib import Path

    from pipeline_lib.datasets.ingest import ingest
    from pipeline_lib.params.load import load

    data = load().data
    print(f"{data.name}: {ingest(Path('data/raw'), data, Path('data'))}")


if __name__ == "__main__":
    from stages.cli import run

    run(main)
