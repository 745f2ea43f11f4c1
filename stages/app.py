"""Commands that are not stages: `python -m stages.app --help` lists them."""

from __future__ import annotations

from pathlib import Path

import typer

from stages import (
    audit,
    compare,
    compare_datasets,
    compare_times,
    doctor,
    export,
    import_labels,
    label_next,
    leaderboard,
    predict,
    profile,
    recipe,
    resume,
    share,
    sweep,
)
from stages.cli import start

REFERENCE = Path("docs/reference")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich takes longer to import than all the rest of --help
)
app.add_typer(recipe.app, name="recipe")
app.add_typer(resume.app, name="resume")
app.command("doctor")(doctor.doctor)
app.command("audit")(audit.audit)
app.command("push")(share.push)
app.command("pull")(share.pull)
app.command("label-next")(label_next.label_next)
app.command("import-labels")(import_labels.import_labels)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("profile")(profile.profile)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("compare-times")(compare_times.compare_times)
app.command("compare-datasets")(compare_datasets.compare_datasets)
app.command("leaderboard")(leaderboard.leaderboard)


@app.callback()
def about() -> None:
    """Commands that are not stages. Each says with --help what it does."""


@app.command()
def reference() -> None:
    """Describe every key of params.yaml anew: docs/reference/params.schema.json and params.md."""
    # Imported here, so that --help answers at once.
    from pipeline_lib.artifacts import publish_json, publish_text
    from pipeline_lib.params.load import load
    from pipeline_lib.reference import json_schema, tables

    values = load().model_dump()
    publish_json(REFERENCE / "params.schema.json", json_schema(), sidecar=False)
    publish_text(REFERENCE / "params.md", tables(values), sidecar=False)
    print(f"wrote params.schema.json and params.md in {REFERENCE}")


if __name__ == "__main__":
    start(app)
