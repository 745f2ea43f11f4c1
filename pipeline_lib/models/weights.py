"""Weights from a file that nobody vouches for: compared with the network before memory is given to them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.overrides import TorchFunctionMode

from pipeline_lib.artifacts import publish_bytes, verify
from pipeline_lib.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

HEADER_BYTES = 1 << 24  # a header takes some hundred bytes per tensor
TYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}
_ALLOCATING = (torch.empty, torch.zeros, torch.ones)


class Weightless(TorchFunctionMode):
    """Within, layers are built without memory for their weights, and without drawing them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the function gives
        """Call a function of torch, but for filling what is not there."""
        del types
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and args and args[0].is_meta:
            return args[0]
        away = {"device": "meta"} if func in _ALLOCATING else {}
        return func(*args, **{**(kwargs or {}), **away})


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a predictor's `state_dict()` as safetensors."""
    publish_bytes(path, as_safetensors(weights))


def as_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """The weights in that form."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def fill(network: nn.Module, path: Path) -> None:
    """Give weights to a network that was built without memory for them.

    Args:
        network: gets the weights, on the CPU.
        path: a file of `save_weights`.

    Raises:
        UserError: The file is damaged, or does not hold exactly the weights of this network.
    """
    verify(path)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > HEADER_BYTES:
        raise _unusable(path, f"its header has {header} bytes, the limit is {HEADER_BYTES}")
    try:
        with safe_open(path, "pt") as stored:
            wanted = network.state_dict()
            _compare(stored, wanted, path)
            weights = {name: _like(wanted[name], stored.get_tensor(name)) for name in wanted}
            # Not to_empty(): of a network without memory that imports the compiler, for half a second.
            load_weights(network, weights, assign=True)
    except (SafetensorError, OSError) as error:
        raise _unusable(path, f"no safetensors ({error})") from error


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool = False
) -> None:
    """`load_state_dict` for weights by name alone: some layers of torchvision (MNASNet) want their version beside them."""
    versioned = OrderedDict(weights)
    versioned._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(versioned, assign=assign)


def _like(wanted: Tensor, values: Tensor) -> Tensor:
    """The values in the memory layout of the network, which decides the last bits of what it computes."""
    laid_out = torch.empty_strided(
        wanted.shape, wanted.stride(), dtype=wanted.dtype, device=values.device
    )
    return laid_out.copy_(values)


def _compare(stored: Any, wanted: Mapping[str, Tensor], path: Path) -> None:  # noqa: ANN401 - it has no type
    """Compare the names, types and shapes in the header with those of the network."""
    found = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
    for name in sorted({*found, *wanted}):
        if name not in found or name not in wanted:
            where = "the file" if name not in found else "the network"
            raise _unusable(path, f"{where} has no {in_one_line(name, 100)}")
        has = (found[name].get_dtype(), tuple(found[name].get_shape()))
        needs = (TYPES.get(wanted[name].dtype), tuple(wanted[name].shape))
        if has != needs:
            raise _unusable(path, f"{name} is {has}, the network needs {needs}")


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path}: not the weights of the network in predictor.json: {in_one_line(problem)}; train again"
    )
