"""What the methods share that classify by soft nearest neighbours among labeled images, the support."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.errors import UserError, listed
from pipeline_lib.methods.base import Method, labeled_images
from pipeline_lib.models.predictor import Predictor, SoftNeighbours, pass_size
from pipeline_lib.models.projection import headless, projected_width, projection_head
from pipeline_lib.records import Problem, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params


class SupportMethod(Method):
    """Embeds images, and classifies them by soft nearest neighbours among the labeled ones.

    Args:
        name: of the method, for its messages.
        section: its params.
        views: of each support image in a step.
        problem: see `Method`.
        model: see `Method`; its linear head is not used.

    Raises:
        UserError: A class has no labeled image, or more classes are asked for than there are.
    """

    class_S: Tensor

    def __init__(
        self,
        name: str,
        section: params.Paws | params.Snn,
        views: int,
        problem: Problem,
        model: Classifier,
    ) -> None:
        inputs = model.head.in_features
        super().__init__(problem, headless(model))
        self.temperature, self.images_per_class = section.temperature, section.images_per_class
        self.projection = projection_head(
            inputs, section.projection_layers, section.projection_width
        )
        self.width = projected_width(inputs, self.projection)
        self.support_N = labeled_images(problem, name)
        self.label_N = problem.candidates_NK[self.support_N].int().argmax(dim=1)
        self.classes = section.classes_per_batch or problem.num_classes
        self._check_classes(name)
        order_S = torch.arange(self.classes).repeat_interleave(self.images_per_class).repeat(views)
        self.register_buffer("class_S", order_S, persistent=False)

    def _check_classes(self, name: str) -> None:
        names = self.problem.class_names
        have_K = self.label_N.bincount(minlength=len(names))
        missing = [names[k] for k in (have_K == 0).nonzero().flatten()]
        if missing:
            msg = (
                f"method: {name} needs a labeled image of every class; of {len(self.label_N)} labeled images "
                f"none is of {listed(missing)}: label one, or let split.protocol keep labels "
                f"of each (few_shot does; or raise split.mixed.labeled)"
            )
            raise UserError(msg)
        if self.classes > len(names):
            msg = (
                f"methods.{name}.classes_per_batch: {self.classes}, but there are {len(names)} classes; "
                f"take {len(names)} or fewer, or null for all"
            )
            raise UserError(msg)

    @property
    def classes_at_once(self) -> int:
        """The classes of a step's support."""
        return self.classes

    def support_stream(self, *views: str) -> Stream:
        """Equally many labeled images of each class of a step, one class after the other (see `class_S`)."""
        size = self.classes * self.images_per_class
        return Stream(self.support_N, size, views, self.label_N, self.classes)

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings, not yet of unit length: uint8 (B, C, H, W) -> (B, D)."""
        embedding_BD: Tensor = self.projection(self.model.features(images_BCHW))
        return embedding_BD

    @torch.no_grad()
    def predictor(self) -> Predictor:
        """Soft nearest neighbours among all labeled images as they are, embedded by the current weights."""
        training = self.training
        self.eval()
        images_NCHW, device = self.problem.images_NCHW, self.class_S.device
        passes = self.support_N.split(pass_size(images_NCHW))
        support_ND = torch.cat(
            [self.embed(images_NCHW[positions_B].to(device)).float() for positions_B in passes]
        )
        self.train(training)
        return SoftNeighbours(
            self.model,
            self.projection,
            support_ND,
            self.label_N,
            self.problem.num_classes,
            self.temperature,
        )
