"""Which device trains, and what goes there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def choose_device(name: str, setting: str = "train.device") -> torch.device:
    """Resolve a device that was asked for by `setting`.

    Raises:
        UserError: The device was asked for by name and is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in available.items() if there), "cpu")
    elif not available.get(name, True):
        msg = f"{setting}: {name} is not available here; set it to auto or cpu"
        raise UserError(msg)
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the bits of a training are said to depend on: the make of a GPU, the kind of anything else."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device, without waiting for what it is doing."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Inside, a GPU works in a queue other than its default one, of which nothing can be recorded."""
    if device.type != "cuda":
        yield
        return
    outer, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)
