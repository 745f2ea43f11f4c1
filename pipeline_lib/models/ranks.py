"""One training by several processes, the ranks: each embeds its rows of every batch, and all know all features.

Losses, label tables and heads are computed by every rank from the features of the whole batch, so a method
need not know that there are ranks (docs/adr/0026-ranks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among those of the training.

    Attributes:
        rank: its number.
        count: of all.
    """

    rank: int
    count: int

    def rows(self, size: int, rank: int | None = None) -> slice:
        """Which of `size` rows are this rank's, or another's."""
        number = self.rank if rank is None else rank
        return slice(size * number // self.count, size * (number + 1) // self.count)


@dataclass(frozen=True)
class Shared:
    """A batch of equal groups, of each of which every rank has some rows.

    Attributes:
        ranks: who shares it.
        groups: G.
        size: of a group, M.
    """

    ranks: Ranks
    groups: int
    size: int

    def mine(self, x_NC: Tensor) -> Tensor:
        """The rows of this rank, of a tensor of all rows, (GM, ...)."""
        grouped: Tensor = x_NC.unflatten(0, (self.groups, self.size))
        return grouped[:, self.ranks.rows(self.size)].flatten(0, 1)

    def all(self, mine_ND: Tensor) -> Tensor:
        """All rows, of the rows of every rank; the gradient of this rank's rows flows back.

        That gradient is of a loss which all ranks compute, so it is the same on all of them.
        """
        gathered_ND: Tensor = _Gathered.apply(mine_ND, self)
        return gathered_ND

    def gather(self, mine_ND: Tensor) -> Tensor:
        """`all`, without gradient."""
        sizes = [_length(self.ranks.rows(self.size, r)) for r in range(self.ranks.count)]
        own = mine_ND.unflatten(0, (self.groups, sizes[self.ranks.rank]))
        padded = own.new_zeros(self.groups, max(sizes), *own.shape[2:])
        padded[:, : own.shape[1]] = own
        parts = padded.new_empty(self.ranks.count * self.groups, *padded.shape[1:])
        # One operation for NCCL, where a list of parts is one for each rank.
        dist.all_gather_into_tensor(parts, padded)
        of_ranks = parts.unflatten(0, (self.ranks.count, self.groups))
        whole_GMD = torch.cat([p[:, :s] for p, s in zip(of_ranks, sizes, strict=True)], dim=1)
        return whole_GMD.flatten(0, 1)


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine_ND: Tensor, shared: Shared) -> Tensor:  # noqa: ANN401 - torch's
        ctx.shared = shared
        return shared.gather(mine_ND)

    @staticmethod
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return ctx.shared.mine(gradient_ND), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ANN401 - torch's
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # each rank uses the sum for rows of its own
        return total


def summed(part: Tensor) -> Tensor:
    """Sum over the ranks, with gradient."""
    total: Tensor = _Summed.apply(part)
    return total


@torch.no_grad()
def add_gradients(own: Iterable[Tensor], same: Iterable[Tensor], ranks: Ranks) -> None:
    """Make the gradients those of the whole batch, in one message.

    Args:
        own: parameters whose gradient is of the rows of this rank: summed.
        same: parameters whose gradient every rank has computed: averaged, so that no rank drifts away.
        ranks: who they are.
    """
    parts = [p.grad for p in own if p.grad is not None]
    means = [p.grad for p in same if p.grad is not None]
    if means:
        torch._foreach_div_(means, ranks.count)
    gradients = parts + means
    if not gradients:
        return
    flat_P = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat_P)
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat_P[offset : offset + gradient.numel()].view(gradient.shape))
        offset += gradient.numel()
