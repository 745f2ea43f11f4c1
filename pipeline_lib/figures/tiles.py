"""A grid of images with lines of text beneath, and single images as PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLUMNS = 6
GAP, LINE = 0.14, 0.155  # between tiles, and per line of text, in widths of a tile
# Columns that carry the images through a frame; they are no part of its table.
PIXELS = pl.Schema([("pixels", pl.Binary()), ("shape", pl.List(pl.Int64))])


@dataclass(frozen=True)
class Tile:
    """An image, the lines of text beneath, and whether to mark it as right, wrong or neither."""

    image_HWC: NDArray[np.uint8]
    lines: Sequence[str]
    right: bool | None


def with_pixels(chosen: pl.DataFrame, images_NHWC: NDArray[np.uint8]) -> pl.DataFrame:
    """N rows with their images, uint8 in the same order, as `pixels` and `shape`."""
    shape = list(images_NHWC.shape[1:])
    content = {
        "pixels": [image.tobytes() for image in images_NHWC],
        "shape": [shape] * len(images_NHWC),
    }
    return pl.concat([chosen, pl.DataFrame(content, schema=PIXELS)], how="horizontal")


def image_of(row: dict[str, object]) -> NDArray[np.uint8]:
    """The image (H, W, C) in a row of `with_pixels`."""
    pixels, shape = row["pixels"], row["shape"]
    if not isinstance(pixels, bytes) or not isinstance(shape, list):
        msg = "a row without an image"
        raise TypeError(msg)
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def as_png(image_HWC: NDArray[np.uint8], largest_side: int) -> bytes:
    """One image as PNG, scaled down where a side is longer than `largest_side` pixels."""
    image = Image.fromarray(_rgb(image_HWC))
    image.thumbnail((largest_side, largest_side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _rgb(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image_HWC, 3, axis=2) if image_HWC.shape[2] == 1 else image_HWC


def draw_tiles(tiles: Sequence[Tile], theme: style.Theme) -> Figure:
    """Tiles from left to right, top to bottom, all in one pair of axes."""
    lines = max(len(tile.lines) for tile in tiles)
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step_x, step_y = 1 + GAP, 1 + LINE * lines + GAP
    width = 1.25
    with style.applied(theme):
        figure = style.plain_figure(width * step_x * columns, width * step_y * rows)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        axes.set_axis_off()
        for number, tile in enumerate(tiles):
            left, top = number % columns * step_x, number // columns * step_y
            axes.imshow(_rgb(tile.image_HWC), extent=(left, left + 1, top + 1, top))
            for row, text in enumerate(tile.lines):
                colour = (
                    theme.ink if tile.right is None else theme.right if tile.right else theme.wrong
                )
                axes.text(
                    left,
                    top + 1 + LINE * (row + 0.5),
                    text,
                    va="center",
                    fontsize=8,
                    color=colour if row == 0 else theme.muted,
                )
        axes.set(
            xlim=(-0.02, columns * step_x - GAP), ylim=(rows * step_y - GAP, -0.02), aspect="equal"
        )
        return figure
