"""Batch statistics: of parts of a batch, used without being recorded, or measured anew."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline_lib.models.ranks import summed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from pipeline_lib.models.ranks import Shared

Network = TypeVar("Network", bound=nn.Module)


class _InGroups(_BatchNorm):
    """In training, normalises every group of the batch by itself, as if they came one after the other.

    Attributes:
        groups: equal parts of the batch.
        recorded: how many of them, from the first on, move the running statistics; None = all.
        shared: the batch, where other processes have the other rows of it.
    """

    groups = 1
    recorded: int | None = None
    shared: Shared | None = None

    def forward(self, x_BC: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            normal_BC: Tensor = super().forward(x_BC)
            return normal_BC
        recorded = self.groups if self.recorded is None else self.recorded
        if self.shared:
            return self._over_ranks(x_BC, recorded, self.shared.size)
        if self.groups > 1 and torch.compiler.is_compiling():
            return self._at_once(x_BC, recorded)
        parts = x_BC.chunk(self.groups) if self.groups > 1 else (x_BC,)
        normal = [self._normalised(part, number < recorded) for number, part in enumerate(parts)]
        return torch.cat(normal) if self.groups > 1 else normal[0]

    def _normalised(self, x_BC: Tensor, recorded: bool) -> Tensor:
        mean_C, var_C = (self.running_mean, self.running_var) if recorded else (None, None)
        momentum = self.momentum or 0.0
        return batch_norm(x_BC, mean_C, var_C, self.weight, self.bias, True, momentum, self.eps)

    def _at_once(self, x_BC: Tensor, recorded: int) -> Tensor:
        """The same in operations that a compiler fuses; one by one they would be slow."""
        part_GMC = x_BC.unflatten(0, (self.groups, -1)).float()
        over = (1, *range(3, x_BC.ndim + 1))
        var_GMC, mean_GMC = torch.var_mean(part_GMC, dim=over, correction=0, keepdim=True)
        self._record(mean_GMC[:recorded], var_GMC[:recorded], part_GMC[0, :, 0].numel())
        return self._scaled(part_GMC, mean_GMC, var_GMC).to(x_BC.dtype)

    def _over_ranks(self, x_BC: Tensor, recorded: int, size: int) -> Tensor:
        """The same, by the statistics of the rows of all ranks; `size` of them make a group."""
        part_GMC = x_BC.unflatten(0, (self.groups, -1))
        part_GMC = part_GMC if x_BC.dtype == torch.float64 else part_GMC.float()
        over = (1, *range(3, x_BC.ndim + 1))
        count = size * part_GMC[0, 0, 0].numel()
        mean_GMC = summed(part_GMC.sum(over, keepdim=True)) / count
        var_GMC = summed((part_GMC - mean_GMC).square().sum(over, keepdim=True)) / count
        self._record(mean_GMC[:recorded], var_GMC[:recorded], count)
        return self._scaled(part_GMC, mean_GMC, var_GMC).to(x_BC.dtype)

    def _scaled(self, part_GMC: Tensor, mean_GMC: Tensor, var_GMC: Tensor) -> Tensor:
        """Normalised, times the weight, plus the bias, (GM, C, ...)."""
        normal_GMC = (part_GMC - mean_GMC) * torch.rsqrt(var_GMC + self.eps)
        if self.weight is not None:
            shape = (1, 1, -1, *[1] * (part_GMC.ndim - 3))
            normal_GMC = normal_GMC * self.weight.view(shape) + self.bias.view(shape)
        return normal_GMC.flatten(0, 1)

    @torch.no_grad()
    def _record(self, mean_GMC: Tensor, var_GMC: Tensor, size: int) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        for mean_MC, var_MC in zip(mean_GMC, var_GMC, strict=True):
            self.running_mean.lerp_(mean_MC.flatten(), self.momentum)
            self.running_var.lerp_(var_MC.flatten() * (size / (size - 1)), self.momentum)


class _Dropout(nn.Dropout):
    """Draws for the rows of all ranks, and drops in those of this one.

    Attributes:
        shared: see `_InGroups`.
    """

    shared: Shared | None = None

    def forward(self, x_BC: Tensor) -> Tensor:
        if not self.training or not self.p or self.shared is None:
            return super().forward(x_BC)
        whole = x_BC.new_empty(self.shared.groups * self.shared.size, *x_BC.shape[1:])
        channels_last = x_BC.ndim == 4 and x_BC.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        kept_NC = super().forward(whole.contiguous(memory_format=layout).fill_(1))
        return x_BC * self.shared.mine(kept_NC)


class _InGroups1d(_InGroups, nn.BatchNorm1d):
    pass


class _InGroups2d(_InGroups, nn.BatchNorm2d):
    pass


GROUPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _InGroups1d,
    nn.BatchNorm2d: _InGroups2d,
    nn.Dropout: _Dropout,
}


def groupable(network: Network) -> Network:
    """Let the batch normalisations of a network take groups, and ranks; parameters and their names stay."""
    for layer in network.modules():
        if type(layer) in GROUPED:
            layer.__class__ = GROUPED[type(layer)]
    return network


@contextlib.contextmanager
def in_groups(network: nn.Module, groups: int, recorded: int | None = None) -> Iterator[None]:
    """Inside, a forward pass is that of `groups` equal parts of the batch, one after the other.

    On a GPU one pass over all of them is faster than several; on a processor see `one_group_at_a_time`.
    In evaluation mode there is no difference.

    Args:
        network: after `groupable`.
        groups: how many.
        recorded: of how many, from the first on, the batch statistics move the running ones; None = all.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _InGroups)]
    before = [(layer.groups, layer.recorded) for layer in layers]
    for layer in layers:
        layer.groups, layer.recorded = groups, recorded
    try:
        yield
    finally:
        for layer, values in zip(layers, before, strict=True):
            layer.groups, layer.recorded = values


@contextlib.contextmanager
def sharing(encoder: nn.Module, shared: Shared) -> Iterator[None]:
    """Inside, a forward pass is that of the rows of one rank, of a batch that others have the rest of."""
    layers = [layer for layer in encoder.modules() if isinstance(layer, _InGroups | _Dropout)]
    for layer in layers:
        layer.shared = shared
    try:
        yield
    finally:
        for layer in layers:
            layer.shared = None


def one_group_at_a_time(
    network: nn.Module, one_pass: Callable[[Tensor], Tensor], batch_BC: Tensor
) -> Tensor:
    """What `one_pass` through `network` gives for the groups of a batch (see `in_groups`), each by itself.

    On a processor this is faster than one pass for all: nothing has to be cut and put together at every batch
    normalisation, and feature maps of fewer images stay longer in the cache.
    """
    layer = next(layer for layer in network.modules() if isinstance(layer, _InGroups))
    recorded = layer.groups if layer.recorded is None else layer.recorded
    passed = []
    for number, group_BC in enumerate(batch_BC.chunk(layer.groups)):
        with in_groups(network, 1, int(number < recorded)):
            passed.append(one_pass(group_BC))
    return torch.cat(passed)


def groups_of(network: nn.Module) -> int:
    """Equal parts of the batch that its batch normalisations are told of (see `in_groups`)."""
    return next((layer.groups for layer in network.modules() if isinstance(layer, _InGroups)), 1)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch normalisations inside."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


@torch.no_grad()
def refresh_statistics(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics to their plain mean over `batches` of images, with the weights as they are.

    Args:
        module: images -> anything; left in the mode it was in.
        batches: uint8 (B, C, H, W), at least one.
    """
    layers, was_training = batch_norms(module), module.training
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch: a cumulative mean
    module.train()
    for images_BCHW in batches:
        module(images_BCHW)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.train(was_training)
