"""The training images, and the batches of every step as a function of its number."""

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
    """All training images as one uint8 tensor; there are no loader workers.

    Args:
        images_NCHW: uint8, on the device or, mapped from a file, on the CPU (see `memory`).
        candidates_NK: bool.
        view: what a stream's view names mean: from a name to (uint8 batch, generator) -> uint8 batch.
        seed: of order and augmentation.
        device: where batches go and are augmented.
    """

    def __init__(
        self,
        images_NCHW: Tensor,
        candidates_NK: Tensor,
        view: Callable[[str], View],
        seed: int,
        device: torch.device,
    ) -> None:
        self.images_NCHW = images_NCHW
        self.candidates_NK = candidates_NK.to(device)
        self.view = view
        self.seed = seed
        self.device = device
        self._members: dict[str, list[tuple[int, Tensor]]] = {}
        self._orders: dict[str, tuple[tuple[int, int], Tensor]] = {}

    def batch(self, streams: Mapping[str, Stream], step: int) -> Batch:
        """The batch of `step`; asking again, or in another process, gives the same one."""
        index, views, candidates = {}, {}, {}
        for name, stream in streams.items():
            position_B = self._positions(name, stream, step)
            images_BCHW = self.images_NCHW[position_B].to(self.device)
            index[name] = position_B.to(self.device)
            candidates[name] = self.candidates_NK[index[name]].float()
            views[name] = tuple(
                self.view(view)(
                    images_BCHW, torch_generator(self.seed, "augment", name, number, step)
                )
                for number, view in enumerate(stream.views)
            )
        return Batch(index, views, candidates)

    def _positions(self, name: str, stream: Stream, step: int) -> Tensor:
        """Positions of the images of a step."""
        if stream.label_N is None:
            return stream.pool_N[self._draw(name, len(stream.pool_N), stream.batch_size, step)]
        return self._balanced(name, stream, stream.label_N, step)

    def _balanced(self, name: str, stream: Stream, label_N: Tensor, step: int) -> Tensor:
        """Equally many images of each of `stream.classes` classes; the classes take turns."""
        members = self._members_of_classes(name, stream, label_N)
        turns = self._draw(f"{name} classes", len(members), stream.classes, step)
        per_class = stream.batch_size // stream.classes
        # How often a class was drawn before is at most this: each pass over the classes has it once.
        visit = step // (len(members) // stream.classes)
        parts = []
        for turn in sorted(turns.tolist()):
            k, of_class_M = members[turn]
            parts.append(of_class_M[self._draw(f"{name} {k}", len(of_class_M), per_class, visit)])
        return torch.cat(parts)

    def _members_of_classes(
        self, name: str, stream: Stream, label_N: Tensor
    ) -> list[tuple[int, Tensor]]:
        """Each class that the stream has, in order, with the positions of its images; sought out once."""
        if name not in self._members:
            present = label_N.unique().tolist()
            self._members[name] = [(k, stream.pool_N[label_N == k]) for k in present]
        return self._members[name]

    def _draw(self, name: str, size: int, wanted: int, step: int) -> Tensor:
        """`wanted` of `size` numbers, from permutations one after the other.

        A pass leaves out the numbers that do not fill a batch, other ones each time, so that no batch
        holds one twice. Fewer than are wanted are repeated.
        """
        if size >= wanted:
            passes, position = divmod(step, size // wanted)
            return self._order(name, size, passes)[position * wanted : (position + 1) * wanted]
        draws = range(step * wanted, (step + 1) * wanted)
        return torch.stack([self._order(name, size, d // size)[d % size] for d in draws])

    def _order(self, name: str, size: int, number: int) -> Tensor:
        """Permutation of pass `number` over `size` numbers."""
        cached = self._orders.get(name)
        if cached is None or cached[0] != (size, number):
            generator = torch_generator(self.seed, "order", name, number)
            order_N = torch.randperm(size, generator=generator)
            cached = self._orders[name] = ((size, number), order_N)
        return cached[1]
