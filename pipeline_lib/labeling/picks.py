"""What a person is to label next: chosen, and written as tasks, as a table, and as a page to look at."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import FileSystemLoader

from pipeline_lib.artifacts import publish_text
from pipeline_lib.figures.tiles import as_png
from pipeline_lib.labeling import studio
from pipeline_lib.labeling.badge import badge
from pipeline_lib.report import page as report_page
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.labeling.pool import Unsure

GUESSES = 3  # classes named per image
SIDE = 160  # pixels of an image on the page, at most
TEMPLATES = (Path(__file__).parent, report_page.TEMPLATES)


@dataclass(frozen=True)
class Pick:
    """An image to label, and the classes that the model finds likely, the likeliest first."""

    source: str
    image_HWC: NDArray[np.uint8]
    guesses: Sequence[tuple[str, float]]

    @property
    def png(self) -> bytes:
        """The image for the page."""
        return as_png(self.image_HWC, SIDE)


def choose(unsure: Unsure, count: int) -> list[Pick]:
    """The images to label next, in the order in which `badge` draws them; the same ones each time.

    Args:
        unsure: the images whose class is open.
        count: how many; all where there are fewer.
    """
    draws = generator(unsure.about["seed"], "label next", len(unsure.ids_N))
    positions = badge(unsure.p_NK, unsure.embedding_ND, count, draws)
    picks = []
    for position, image_HWC in zip(positions, unsure.pixels(positions), strict=True):
        p_K = unsure.p_NK[position]
        likeliest = (-p_K).argsort(kind="stable")[:GUESSES]
        guesses = [(unsure.classes[k], float(p_K[k])) for k in likeliest if p_K[k] > 0]
        picks.append(Pick(unsure.sources[position], image_HWC, guesses))
    return picks


def write(folder: Path, unsure: Unsure, picks: Sequence[Pick], prefix: str | None) -> None:
    """Write tasks.json and label_config.xml for Label Studio, next.csv, and index.html to look at.

    Args:
        folder: gets the files; earlier ones of these names are replaced.
        unsure: where the images are from.
        picks: the chosen ones.
        prefix: see `studio.tasks`.
    """
    about = unsure.about
    model = f"{about['method']} (seed {about['seed']})"
    tasks = json.dumps(studio.tasks(picks, model, prefix), ensure_ascii=False, indent=1)
    publish_text(folder / "label_config.xml", studio.configuration(unsure.classes), sidecar=False)
    publish_text(folder / "next.csv", _table(picks), sidecar=False)
    publish_text(folder / "index.html", _page(unsure, picks), sidecar=False)
    publish_text(folder / "tasks.json", tasks + "\n", sidecar=False)


def _table(picks: Sequence[Pick]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "guess", "probability"))
    writer.writerows(
        (pick.source, name, f"{p:.6f}") for pick in picks for name, p in pick.guesses[:1]
    )
    return text.getvalue()


def _page(unsure: Unsure, picks: Sequence[Pick]) -> str:
    template = report_page.environment(FileSystemLoader(TEMPLATES)).get_template("picks.html.j2")
    about = unsure.about
    return template.render(
        picks=picks,
        pixelated=max(unsure.stored.shape[:2]) <= 64,
        facts=[
            ("Data", about["dataset"]),
            ("Model", about["method"]),
            ("Images not yet of one class", f"{len(unsure.ids_N):,}"),
            ("Chosen", f"{len(picks):,}"),
            (
                "Shown as the model sees them",
                "{1} \N{MULTIPLICATION SIGN} {0} pixels".format(*unsure.stored.shape),
            ),
        ],
    )
