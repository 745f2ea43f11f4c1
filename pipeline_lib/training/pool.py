"""The training images on the device, and the batches of every step as a function of its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.records import Batch
from pipeline_lib.rng import torch_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from pipeline_lib.records import Stream

    View = Callable[[Tensor, torch.Generator], Tensor]


class Pool:
    """All training images as one uint8 tensor on the device; there are no loader workers.

    Args:
        images_NCHW: uint8.
        candidates_NK: bool.
        views: what a stream's view names mean, uint8 batch and generator -> uint8 batch.
        seed: of order and augmentation.
        device: where the images live and are augmented.
    """

    def __init__(
        self,
        images_NCHW: Tensor,
        candidates_NK: Tensor,
        views: Mapping[str, View],
        seed: int,
        device: torch.device,
    ) -> None:
        self.images_NCHW = images_NCHW.to(device)
        self.candidates_NK = candidates_NK.to(device).float()
        self.views = views
        self.seed = seed
        self.device = device
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def batch(self, streams: Mapping[str, Stream], step: int) -> Batch:
        """The batch of `step`; asking again, or in another process, gives the same one."""
        index, views, candidates = {}, {}, {}
        for name, stream in streams.items():
            index_B = self._positions(name, stream, step).to(self.device)
            images_BCHW = self.images_NCHW[index_B]
            index[name] = index_B
            candidates[name] = self.candidates_NK[index_B]
            views[name] = tuple(
                self.views[view](
                    images_BCHW, torch_generator(self.seed, "augment", name, number, step)
                )
                for number, view in enumerate(stream.views)
            )
        return Batch(index, views, candidates)

    def _positions(self, name: str, stream: Stream, step: int) -> Tensor:
        """Positions of the images of a step: permutations of the pool, one after the other.

        A pass leaves out the images that do not fill a batch, other ones each time, so that no batch
        holds an image twice. A pool smaller than a batch is repeated within it.
        """
        size, wanted = len(stream.pool_N), stream.batch_size
        if size >= wanted:
            passes, position = divmod(step, size // wanted)
            order_N = self._order(name, size, passes)
            return stream.pool_N[order_N[position * wanted : (position + 1) * wanted]]
        draws_B = torch.arange(step * wanted, (step + 1) * wanted)
        return torch.stack(
            [stream.pool_N[self._order(name, size, int(d) // size)[int(d) % size]] for d in draws_B]
        )

    def _order(self, name: str, size: int, number: int) -> Tensor:
        """Permutation of pass `number` over a stream's pool."""
        cached = self._orders.get(name)
        if cached is None or cached[0] != number:
            generator = torch_generator(self.seed, "order", name, number)
            cached = self._orders[name] = (number, torch.randperm(size, generator=generator))
        return cached[1]
