"""Draw protocols.svg: what each label protocol makes of the labels of the digits.

python -m docs.explanation.make_protocols
"""

from __future__ import annotations

import math
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.artifacts import read_json
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.figures import candidates, cells, co_occurrence, style
from pipeline_lib.params.load import load
from pipeline_lib.params.split import Split
from pipeline_lib.parquet import read_table
from pipeline_lib.pixels import Stored, pixel_blocks
from pipeline_lib.protocols.split import Tables, split

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).parent / "protocols.svg"
SIMILAR = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"], "bent": ["2", "3", "5"]}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "uniform_candidates": {"rate": 0.3, "force_ambiguous": True},
    "class_dependent": {"similar": "superclasses", "rate": 0.5, "superclasses": SIMILAR},
    "instance_candidates": {"rate": 0.4},
    "annotators": {"count": 3, "accuracy": 0.8},
    "mixed": {"labeled": 0.1, "partial": 0.4, "rate": 0.3},
    "few_shot": {"labels": 100},
}
SEED = 1
COLUMNS = 3


def main() -> None:
    """Write the picture beside this file."""
    PICTURE.write_bytes(picture())


def picture() -> bytes:
    """Two charts per protocol, three protocols in a row, as SVG."""
    theme = style.LIGHT
    with style.applied(theme):
        rows = 2 * math.ceil(len(PROTOCOLS) / COLUMNS)
        figure = style.plain_figure(3.5 * COLUMNS, 3.1 * rows)
        figure.set_layout_engine("constrained", h_pad=0.1)
        places = figure.subplots(rows, COLUMNS, height_ratios=(2, 3) * (rows // 2))
        for place in places.flat:
            place.set_axis_off()
        for number, (name, tables) in enumerate(weakened().items()):
            row, column = divmod(number, COLUMNS)
            upper, lower = places[2 * row : 2 * row + 2, column]
            upper.set_axis_on()
            upper.set_title(name, loc="left", fontsize=14, color=theme.ink, pad=10)
            sizes, together = frames(tables)
            candidates.fill_axes(upper, sizes, theme)
            if together.is_empty():
                lower.text(0, 0.97, "Every set holds\none class or all of them.", va="top")
            else:
                lower.set_axis_on()
                cells.fill_axes(lower, co_occurrence.as_cells(together), theme)
        return style.as_svg(figure, theme)


def weakened(protocols: Iterable[str] = PROTOCOLS) -> dict[str, Tables]:
    """What the split stage makes of the digits by some protocols, whatever params.yaml says of them."""
    params = load(ROOT / "params.yaml")
    data = params.data.model_copy(update={"name": "digits"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snapshot(data, folder / "raw")
        ingest(folder / "raw", data, folder)
        about = read_json(folder / "classes.json")
        pixels = partial(pixel_blocks, folder / "images.parquet", stored=Stored.described_by(about))
        table = read_table(folder / "labels.parquet")
        return {
            protocol: split(
                table, about, "partial", options(params.split, protocol), SEED, None, pixels
            )
            for protocol in protocols
        }


def options(params: Split, protocol: str) -> Split:
    """The section `split` with the protocol and its own knobs as they are here."""
    content = params.model_dump() | {"protocol": protocol, "allow_noisy_candidates": True}
    content[protocol] = content.get(protocol, {}) | PROTOCOLS[protocol]
    return Split.model_validate(content)


def frames(tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates per training image, and which go together."""
    classes = [str(digit) for digit in range(10)]
    train, oracle = (pl.DataFrame(pl.from_arrow(table)) for table in (tables.train, tables.oracle))
    labels = train.select("id", pl.col("candidates").cast(pl.List(pl.String)))
    truth = oracle.select("id", pl.col("label").cast(pl.String).alias("true_label"))
    return candidates.data(labels, len(classes)), co_occurrence.data(labels, truth, classes)


if __name__ == "__main__":
    main()
