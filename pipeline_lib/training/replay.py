"""A step whose kernels are recorded once and then replayed: launching them takes longer than small networks do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.records import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from pipeline_lib.records import Drawn

    Step = Callable[[Batch, Drawn], None]
    Recorder = Callable[[Callable[[], None]], Callable[[], None]]

PLAIN_STEPS = (
    3  # before recording: libraries choose their algorithms, the optimizer makes its state
)


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Record what `work` launches, without doing it; the result does it.

    Raises:
        RuntimeError: Something in it waits for the device or copies from the processor's memory.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return graph.replay


class Replayed:
    """A step that is taken plainly a few times, recorded, and from then on replayed.

    What is recorded reads and writes the same memory every time. So the batch and what was drawn are copied
    there, and everything else that a step changes has to be changed in place.

    Args:
        step: the plain one.
        say: tells the user why steps could not be recorded; all are plain then.
        record: how it is done.
    """

    def __init__(
        self, step: Step, say: Callable[[str], None], record: Recorder = cuda_graph
    ) -> None:
        self.step, self.say, self.record = step, say, record
        self.plain_steps: float = PLAIN_STEPS
        self.replay: Callable[[], None] | None = None
        self.slots: list[Tensor] = []

    def __call__(self, batch: Batch, drawn: Drawn) -> None:
        """Take a step."""
        if self.replay is None and self.plain_steps:
            self.plain_steps -= 1
            self.step(batch, drawn)
            return
        if self.replay is None:
            self._record(batch, drawn)
        if self.replay is None:
            self.step(batch, drawn)
            return
        _copy(_tensors(batch, drawn), self.slots)
        self.replay()

    def _record(self, batch: Batch, drawn: Drawn) -> None:
        batch, drawn = _places(batch), {name: values.clone() for name, values in drawn.items()}
        self.slots = list(_tensors(batch, drawn))
        try:
            self.replay = self.record(lambda: self.step(batch, drawn))
        except RuntimeError as error:
            self.plain_steps, self.slots = float("inf"), []
            cause = (
                error.__context__ or error
            )  # of a recording that is broken off, the end fails too
            self.say(f"steps are launched kernel by kernel: {str(cause).strip().splitlines()[0]}")


def of_compiler(error: RuntimeError) -> bool:
    """Whether the compiler has failed: there is none for C on the machine, for example."""
    from torch._dynamo.exc import TorchDynamoException  # seconds to import; who asks has compiled

    return isinstance(error, TorchDynamoException)


def _places(batch: Batch) -> Batch:
    return Batch(
        {name: index_B.clone() for name, index_B in batch.index.items()},
        {name: tuple(view.clone() for view in views) for name, views in batch.views.items()},
        {name: masks_BK.clone() for name, masks_BK in batch.candidates.items()},
    )


def _tensors(batch: Batch, drawn: Mapping[str, Tensor]) -> Iterable[Tensor]:
    yield from batch.index.values()
    for views in batch.views.values():
        yield from views
    yield from batch.candidates.values()
    yield from drawn.values()


def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    """Copy, in one launch per type."""
    pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        lists = pairs.setdefault(source.dtype, ([], []))
        lists[0].append(source)
        lists[1].append(target)
    for from_, to in pairs.values():
        torch._foreach_copy_(to, from_)
