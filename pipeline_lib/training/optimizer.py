"""The optimizer, and its state as flat tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.training.lars import Lars

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from pipeline_lib.params.sections import Train


def build_optimizer(train: Train, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `train`; the learning rate is set at every step.

    On a GPU it is one kernel for all parameters that reads the learning rate there, so that its steps can
    be recorded.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = _groups(train, trained)
    fused: dict[str, Any] = {}
    rate: Any = train.learning_rate
    if trained[0].device.type == "cuda":
        fused, rate = {"fused": True}, torch.tensor(rate, device=trained[0].device)
    match train.optimizer:
        case "sgd":
            momentum, nesterov = train.momentum, train.nesterov
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, **fused)
        case "lars":
            return Lars(groups, lr=rate, momentum=train.momentum)
        case "adam":
            kind: type[torch.optim.Adam] = torch.optim.Adam
        case "adamw":
            kind = torch.optim.AdamW
    betas = (train.momentum, 0.999)
    return kind(groups, lr=rate, betas=betas, capturable=bool(fused), **fused)


def _groups(train: Train, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """All parameters, or the kernels and the rest: biases, and scale and shift of normalisations."""
    everything = {"params": parameters, "weight_decay": train.weight_decay}
    if train.decay == "all" and train.optimizer != "lars":
        return [everything]
    kernels = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    free: dict[str, Any] = {"params": others, "weight_decay": 0.0}
    if train.optimizer == "lars":
        free["adapt"] = False
    return [everything | {"params": kernels}, free]


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` in the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Momentum and the like as `{parameter number}.{name}` -> tensor."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # Saved contiguous. On a GPU the fast kernels need the layout of the weights, here channels last;
    # with others a resumed run would differ in the last bits.
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape and value.ndim:
                values[name] = torch.empty_like(parameter).copy_(value)
