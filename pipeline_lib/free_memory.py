"""How much memory is free, where a container or a job may have less than the machine; and what if too little is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil
import torch

from pipeline_lib.control_groups import groups
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 1 << 30


def free_bytes(device: torch.device) -> int:
    """Bytes that are free: of the GPU, or else of the host and of the process's control groups."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available: int = psutil.virtual_memory().available
    return min([available, *_left_by_groups()])


@contextlib.contextmanager
def enough_memory(otherwise: str) -> Iterator[None]:
    """Within, a lack of memory is answered with what to lower.

    Raises:
        UserError: There was one.
    """
    try:
        yield
    except RuntimeError as error:
        # A GPU has an error of its own, the processor only words.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise UserError(otherwise) from error


def _left_by_groups() -> Iterator[int]:
    """Bytes left by each control group with a limit that the process is in."""
    for folder in groups("memory"):
        for names in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
        ):
            if (folder / names[0]).exists():
                limit, used = ((folder / name).read_text().strip() for name in names)
                if limit != "max":
                    yield max(int(limit) - int(used) + _reclaimable(folder), 0)


def _reclaimable(group: Path) -> int:
    """Bytes of files that the group keeps in memory only as long as nobody needs it."""
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    names = (
        "inactive_file",
        "total_inactive_file",
    )  # version 1 has both, the second with the groups below
    return max((int(number) for name, number in lines if name in names), default=0)
