"""What a predictor says of images, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PREDICTIONS = pa.schema(
    {
        "source": pa.string(),
        "label": pa.string(),
        "probability": pa.float32(),
        "top_classes": pa.list_(pa.string()),
        "top_probabilities": pa.list_(pa.float32()),
        "problem": pa.string(),
    }
)


@dataclass(frozen=True)
class Top:
    """The likeliest classes of B images, the likeliest first: int64 and float32 (B, T)."""

    classes_BT: NDArray[np.int64]
    probabilities_BT: NDArray[np.float32]


def likeliest(probabilities_BK: NDArray[np.float32], count: int) -> Top:
    """The `count` likeliest classes of each image; of two alike, the one that comes first."""
    order_BK = np.argsort(-probabilities_BK, axis=1, kind="stable")
    classes_BT = order_BK[:, :count]
    return Top(classes_BT, np.take_along_axis(probabilities_BK, classes_BT, axis=1))


def predictions(
    sources: Sequence[str],
    problems: Sequence[str | None],
    top: Top,
    classes: Sequence[str],
    abstain_below: float,
) -> pa.Table:
    """One row per image, in their order.

    Args:
        sources: of N images.
        problems: why there is no image, for those that could not be read, else None.
        top: of the B images that could be read, in the same order.
        classes: K names.
        abstain_below: images whose largest probability is lower get no label.
    """
    readable_N = np.array([problem is None for problem in problems], bool)
    names = pa.array(classes, pa.string())
    row_N = readable_N.cumsum() - 1  # in `top`
    best_N = np.zeros(len(sources), np.int64)
    probability_N = np.zeros(len(sources), np.float32)
    best_N[readable_N] = top.classes_BT[:, 0]
    probability_N[readable_N] = top.probabilities_BT[:, 0]
    silent_N = ~readable_N | (probability_N < np.float32(abstain_below))
    offsets = pa.array(np.append(0, row_N + 1) * top.classes_BT.shape[1], pa.int32())
    missing = pa.array(~readable_N)
    flat = names.take(pa.array(top.classes_BT.ravel()))
    columns = [
        pa.array(sources, pa.string()),
        names.take(pa.array(best_N, mask=silent_N)),
        pa.array(probability_N, mask=~readable_N),
        pa.ListArray.from_arrays(offsets, flat, mask=missing),
        pa.ListArray.from_arrays(offsets, pa.array(top.probabilities_BT.ravel()), mask=missing),
        pa.array(problems, pa.string()),
    ]
    return pa.table(columns, schema=PREDICTIONS)
