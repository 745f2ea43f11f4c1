"""Which device trains."""

from __future__ import annotations

import torch

from pipeline_lib.errors import UserError


def choose_device(name: str) -> torch.device:
    """Resolve `train.device`.

    Raises:
        UserError: The device was asked for by name and is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in available.items() if there), "cpu")
    elif not available.get(name, True):
        msg = f"train.device: {name} is not available here; set it to auto or cpu"
        raise UserError(msg)
    return torch.device(name)
