"""What a container or a job leaves of the machine: the control groups of Linux, and the cores that they allow."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """Count the cores that this process may use, at least one.

    A container of two cores sees all of its machine's; as many processes or threads would hinder each other.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([seen, *(max(1, math.ceil(quota)) for quota in _quotas())])


def groups(controller: str) -> Iterator[Path]:
    """Folders of the groups that the process is in and `controller` may limit, its own first; none but on Linux."""
    lines = OWN.read_text().splitlines() if OWN.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = ROOT / controllers  # version 2 has one hierarchy, of no name
        group = root / path.strip("/")
        # A container sees its own group as the root, whatever the path says.
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each group with a limit allows."""
    for folder in groups("cpu"):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        elif (folder / "cpu.cfs_quota_us").exists():  # version 1
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        else:
            continue
        if quota not in {"max", "-1"}:
            yield int(quota) / int(period)
