"""What the training loop asks of a method, and what methods share."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline_lib.errors import UserError
from pipeline_lib.losses.common import confident_classes, soft_cross_entropy
from pipeline_lib.methods.phases import Phase
from pipeline_lib.models.batch_norm import groupable
from pipeline_lib.models.predictor import Predictor
from pipeline_lib.records import StepOutput, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pipeline_lib.methods.phases import Found, Search
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.params.sections import Train
    from pipeline_lib.records import Batch, Clock, Drawn, Problem, Role
    from pipeline_lib.rng import StepRng


class Method(nn.Module, abc.ABC):
    """A way to learn from weak labels. Its tables over the training images are buffers.

    A subclass `Foo` in `methods/foo.py` is built as `Foo(params, problem, model)`, where `params` is
    the class of the same name in `params/methods.py`. It needs no optimizer, no I/O and no `.item()`.

    Attributes:
        problem: the task.
        model: the network in training.
        phase: name of the phase that training is in; the trainer sets it.
    """

    def __init__(self, problem: Problem, model: Classifier) -> None:
        super().__init__()
        self.problem = problem
        self.model = groupable(model)
        self.phase = "train"

    @property
    @abc.abstractmethod
    def streams(self) -> Mapping[str, Stream]:
        """Which images a step of the current phase needs, how many, and which views of them."""

    @property
    def views_per_step(self) -> int:
        """How many images, each view of one counted, a step of the current phase looks at."""
        return sum(stream.batch_size * len(stream.views) for stream in self.streams.values())

    @property
    def variant(self) -> str:
        """What sets this run apart where papers and codes differ; metrics.json records it."""
        return "standard"

    def draw(self, clock: Clock, rng: StepRng) -> Drawn:
        """What a step needs besides its images: CPU tensors, of the same shapes throughout a phase."""
        del clock, rng
        return {}

    def risen(self, clock: Clock) -> float:
        """How far the weight of a loss that rises during training has risen, 0 to 1; 1 where none does."""
        del clock
        return 1.0

    @property
    def recordings_per_step(self) -> int:
        """How often a step moves the running statistics of batch normalisation."""
        return 1

    @abc.abstractmethod
    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Loss of one step on the views of `batch`; tables are updated here.

        A function of tensors alone: on a GPU its kernels are recorded once and replayed, so nothing in it may
        depend on the number of the step, wait for the device, or copy from the processor's memory.

        Args:
            batch: of the streams.
            drawn: what `draw` gave, on the device.
        """

    @property
    def notice(self) -> str | None:
        """A line to print at the start, where the method's name does not say all."""
        return None

    @property
    def classes_at_once(self) -> int:
        """Among how many classes a step predicts: the collapse alarm compares with their entropy."""
        return self.problem.num_classes

    def phases(self, train: Train, steps_per_epoch: int) -> tuple[Phase, ...]:
        """The course of the training; most methods have one phase, all of it."""
        return (Phase("train", train.epochs * steps_per_epoch, train),)

    def enter(self, phase: Phase) -> None:
        """Begin a phase; the weights are the averaged ones of the phase before."""
        self.phase = phase.name

    def search(self) -> Search | None:
        """The settings that are to be found before training."""
        return None

    def use(self, found: Found) -> None:
        """Take over the settings that were found."""

    def label_state(self) -> Tensor | None:
        """The method's current soft label of every training image (N, K), if it keeps any."""
        return None

    def confident_guesses(self) -> Tensor | None:
        """Class of every training image that the method is sure of, else NO_GUESS: int16 (N,).

        Nothing is learned from it: it tells how good the guesses are. None where no label is guessed.
        """
        table_NK = self.label_state()
        return None if table_NK is None else confident_classes(table_NK)

    def predictor(self) -> Predictor:
        """What is kept of the training: uint8 images -> probabilities."""
        return Predictor(self.model)


class SingleView(Method):
    """Every training image, in one view.

    Args:
        params: its augmentation, and what else a subclass has there.
        problem: see `Method`.
        model: see `Method`.
    """

    def __init__(self, params: params.SingleView, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.view = params.view

    @property
    def streams(self) -> dict[str, Stream]:
        """All images, whatever is known of them."""
        return {"train": Stream(all_images(self.problem), self.problem.batch_size, (self.view,))}


class LabeledMethod(Method):
    """Cross-entropy on the labeled images, whatever they are called.

    Args:
        params: augmentation of the single view.
        problem: see `Method`.
        model: see `Method`.
        name: of the method, for its messages.
    """

    def __init__(
        self, params: params.SingleView, problem: Problem, model: Classifier, name: str
    ) -> None:
        super().__init__(problem, model)
        self.view = params.view
        self.pool_N = labeled_images(problem, name)

    @property
    def streams(self) -> dict[str, Stream]:
        """The labeled images, in one view."""
        return {"labeled": Stream(self.pool_N, self.problem.batch_size, (self.view,))}

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Cross-entropy; the candidate mask of a labeled image is its one-hot label."""
        logits_BK = self.model(batch.views["labeled"][0])
        return StepOutput(soft_cross_entropy(logits_BK, batch.candidates["labeled"]))


def all_images(problem: Problem) -> Tensor:
    """Positions of all training images."""
    return torch.arange(len(problem.roles))


def images_with_role(problem: Problem, *roles: Role) -> Tensor:
    """Positions of the training images that have one of `roles`, int64."""
    return torch.tensor([role in roles for role in problem.roles]).nonzero().flatten()


def labeled_images(problem: Problem, method: str) -> Tensor:
    """Positions of the images of the labeled set: those whose role says so.

    Raises:
        UserError: There are none.
    """
    pool_N = images_with_role(problem, "labeled", "labeled_and_unlabeled")
    if len(pool_N) == 0:
        msg = (
            f"method: {method} learns from labeled images, and none of the {len(problem.roles)} training "
            f"images has a single candidate; use split.protocol few_shot, or a partial-label method"
        )
        raise UserError(msg)
    return pool_N
