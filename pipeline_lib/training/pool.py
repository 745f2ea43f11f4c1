"""The training images, and the batches of every step as a function of its number."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pipeline_lib.records import Batch
from pipeline_lib.rng import torch_generator
from pipeline_lib.training.device import sent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from pipeline_lib.augment.policies import View
    from pipeline_lib.records import Stream

# A view is hundreds of small operations, whatever the number of images: several steps share them.
IMAGES_AT_ONCE = {"cpu": 512}  # more do not stay in a processor's cache
OTHERWISE = 16_384
BYTES_AT_ONCE = 1 << 28


class Draws(NamedTuple):
    """What was drawn for the batches of a stream, on the CPU."""

    position_N: Tensor
    parameters: list[Any]
    """One entry per view, of its own type."""


class Pool:
    """All training images as one uint8 tensor; there are no loader workers.

    Args:
        images_NCHW: uint8, on the device or, mapped from a file, on the CPU (see `memory`).
        candidates_NK: bool.
        view: what a stream's view names mean.
        seed: of order, augmentation, layers, and the method's own draws.
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
        self.candidates_NK = candidates_NK.to(device)  # a byte each: of many classes they are much
        self.view = view
        self.seed = seed
        self.device = device
        self._members: dict[str, list[tuple[int, Tensor]]] = {}
        self._orders: dict[str, tuple[tuple[int, int], Tensor]] = {}

    def batch(self, streams: Mapping[str, Stream], step: int) -> Batch:
        """The batch of `step`; asking again, or in another process, gives the same one."""
        return self.batches(streams, range(step, step + 1))[0]

    def batches(self, streams: Mapping[str, Stream], steps: range) -> list[Batch]:
        """The batches of several steps, made together: the same as one by one."""
        return self.made(streams, self.draws(streams, steps))

    def draws(self, streams: Mapping[str, Stream], steps: range) -> dict[str, Draws]:
        """Which images the steps have, and the parameters of their views; each step draws for itself."""
        return {
            name: Draws(
                torch.cat([self._positions(name, stream, step) for step in steps]),
                [
                    self._parameters(name, number, stream, steps)
                    for number in range(len(stream.views))
                ],
            )
            for name, stream in streams.items()
        }

    def made(self, streams: Mapping[str, Stream], drawn: Mapping[str, Draws]) -> list[Batch]:
        """The batches that were drawn."""
        index: dict[str, Sequence[Tensor]] = {}
        views: dict[str, list[Sequence[Tensor]]] = {}
        candidates: dict[str, Sequence[Tensor]] = {}
        for name, stream in streams.items():
            index_N = sent(drawn[name].position_N, self.device)
            images_NCHW = self._images(drawn[name].position_N, index_N)
            index[name] = index_N.split(stream.batch_size)
            candidates[name] = self.candidates_NK[index_N].float().split(stream.batch_size)
            views[name] = [
                self.view(view).apply(images_NCHW, parameters).split(stream.batch_size)
                for view, parameters in zip(stream.views, drawn[name].parameters, strict=True)
            ]
        return [
            Batch(
                {name: parts[i] for name, parts in index.items()},
                {name: tuple(parts[i] for parts in of_all) for name, of_all in views.items()},
                {name: parts[i] for name, parts in candidates.items()},
            )
            for i in range(len(next(iter(index.values()))))
        ]

    def _images(self, position_N: Tensor, index_N: Tensor) -> Tensor:
        """The images at these positions, which are also on the device, wherever the images are."""
        if self.images_NCHW.device == index_N.device:
            return self.images_NCHW[index_N]
        return sent(self.images_NCHW[position_N], self.device)

    def _parameters(self, name: str, number: int, stream: Stream, steps: range) -> Any:  # noqa: ANN401 - the view's
        """Those of view `number` of all steps."""
        view = self.view(stream.views[number])
        drawn = [
            view.sample(
                torch_generator(self.seed, "augment", name, number, step), stream.batch_size
            )
            for step in steps
        ]
        return view.joined(drawn)

    def steps_at_once(self, streams: Mapping[str, Stream]) -> int:
        """Of how many steps to make the batches together: enough images, and not too much memory."""
        images = IMAGES_AT_ONCE.get(self.device.type, OTHERWISE)
        most = max(stream.batch_size for stream in streams.values())
        seen = sum(stream.batch_size * (1 + len(stream.views)) for stream in streams.values())
        step_bytes = seen * self.images_NCHW[0].numel()
        return max(1, min(images // most, BYTES_AT_ONCE // step_bytes))

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


class Feed:
    """The batches of one phase, of several steps at a time.

    A GPU has a queue of work, so that the processor may draw for the next ones meanwhile.

    Args:
        pool: of images.
        streams: of the phase.
    """

    def __init__(self, pool: Pool, streams: Mapping[str, Stream]) -> None:
        self.pool, self.streams = pool, streams
        self.together = pool.steps_at_once(streams)
        self._first, self._ready = 0, list[Batch]()
        self._next: tuple[int, Future[dict[str, Draws]]] | None = None
        self._ahead = ThreadPoolExecutor(1) if pool.device.type == "cuda" else None

    def batch(self, step: int) -> Batch:
        """What `Pool.batch` gives."""
        if not 0 <= step - self._first < len(self._ready):
            self._ready = []  # not twice the memory
            self._first, self._ready = step, self.pool.made(self.streams, self._draws(step))
        return self._ready[step - self._first]

    def _draws(self, step: int) -> dict[str, Draws]:
        steps = range(step, step + self.together)
        early, self._next = self._next, None
        if early and early[0] == step:
            drawn = early[1].result()
        else:
            drawn = self.pool.draws(self.streams, steps)
        if self._ahead:
            following = range(steps.stop, steps.stop + self.together)
            self._next = (
                steps.stop,
                self._ahead.submit(self.pool.draws, self.streams, following),
            )
        return drawn
