"""What the project runs on: Python, packages, cores, GPU, disk, and the params."""

from __future__ import annotations

import ctypes
import platform
import shutil
import tempfile
import tomllib
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipeline_lib.control_groups import cores
from pipeline_lib.doctor.cache import OBJECTS, cache_folder
from pipeline_lib.doctor.finding import Checked, Finding, counted, human
from pipeline_lib.errors import UserError, listed
from pipeline_lib.params.load import load
from pipeline_lib.training.resume import resume_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PINS = "requirements.txt"
LEAST_FREE = 1 << 30  # bytes
FIRST = (
    "torch",
    "torchvision",
    "numpy",
    "dvc",
    "pillow",
    "pyarrow",
    "polars",
    "scikit-learn",
    "scipy",
)
"""Packages that results depend on the most: of many that differ, these are named, after those that are missing."""


def check(root: Path) -> Checked:
    """Find versions that are not the pinned ones, a full or read-only disk, a missing GPU, and mistakes in the params."""
    pins = _pins(root)
    gpus = cuda_devices()
    summary = (
        f"Python {platform.python_version()}, {counted(len(pins), 'pinned package')}, "
        f"{counted(cores(), 'core')}, {counted(gpus, 'CUDA device')}, "
        f"{human(shutil.disk_usage(root).free)} free"
    )
    findings = (*_python(root), *_packages(pins), *_disks(root), *_writable(root), *_params(gpus))
    return Checked(summary, findings)


def cuda_devices() -> int:
    """How many GPUs the driver of NVIDIA has; 0 without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return 0 if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def _pins(root: Path) -> dict[str, str]:
    """Version by name, of the packages that are for this platform and Python."""
    pins: dict[str, str] = {}
    for line in (root / PINS).read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                (pin,) = requirement.specifier
                pins[canonicalize_name(requirement.name)] = pin.version
    return pins


def _python(root: Path) -> Iterator[Finding]:
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    if platform.python_version() not in SpecifierSet(wanted, prereleases=True):
        what = f"is {platform.python_version()}, and the project needs {wanted}"
        yield Finding("Python", what, "make .venv anew with another one")


def _packages(pins: dict[str, str]) -> Iterator[Finding]:
    installed: dict[str, str] = {
        canonicalize_name(d.metadata["Name"]): d.version for d in distributions()
    }
    other = [
        f"{name} {installed[name]} instead of {pin}" if name in installed else f"{name} is missing"
        for name, pin in sorted(
            pins.items(), key=lambda pin: (pin[0] in installed, pin[0] not in FIRST, pin[0])
        )
        if installed.get(name) != pin
    ]
    if other:
        yield Finding(
            PINS,
            f"other packages are installed: {listed(other, 5)}",
            "`touch requirements.txt && make help .venv/ok` installs the pinned ones; "
            "other versions may give other bytes",
        )


def _folders(root: Path) -> dict[str, Path]:
    """Where every run writes; of what is not there yet, the folder that it will be made in."""
    folders = {
        "the checkout": root,
        "the cache of DVC": cache_folder(root) / OBJECTS,
        "the resume states": resume_root(),
    }
    return {
        what: next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())
        for what, folder in folders.items()
    }


def _disks(root: Path) -> Iterator[Finding]:
    low = {}
    for what, folder in _folders(root).items():
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE:
            low[folder.stat().st_dev] = (what, free)
    for what, free in low.values():
        yield Finding(
            f"disk of {what}",
            f"{human(free)} free",
            "free some: `dvc gc --workspace --all-commits --all-experiments --dry` shows what would go, and "
            '`python -m stages.app resume clean` deletes states of trainings; docs/how-to/share.md, "Free the disk", '
            "before you leave --dry out: a shared cache needs more",
        )


def _writable(root: Path) -> Iterator[Finding]:
    """Rights do not tell: to root all seem given, on a disk that is mounted to be read as well."""
    for what, folder in _folders(root).items():
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            why = f"cannot be written to ({error.strerror})"
            yield Finding(
                f"{what}, {folder}", why, "fix its rights, make room, or mount it to be written"
            )


def _params(gpus: int) -> Iterator[Finding]:
    try:
        device = load().train.device
    except UserError as error:
        where, _, what = str(error).partition(": ")
        yield Finding(where, what, "correct it")
        return
    if device == "cuda" and not gpus:
        yield Finding(
            "train.device", "is cuda, and there is no CUDA device", "set it to auto or cpu"
        )
