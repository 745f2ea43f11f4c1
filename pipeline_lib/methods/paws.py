"""PAWS: views of an image are predicted alike from labeled support images.

Assran et al.: Semi-Supervised Learning of Visual Features by Non-Parametrically Predicting View
Assignments with Support Samples, ICCV 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from pipeline_lib.errors import UserError
from pipeline_lib.losses import paws as losses
from pipeline_lib.losses.common import confident_classes, entropy, soft_cross_entropy
from pipeline_lib.methods.base import images_with_role
from pipeline_lib.methods.phases import Phase
from pipeline_lib.methods.support import SupportMethod
from pipeline_lib.models.batch_norm import batch_norms
from pipeline_lib.models.predictor import Predictor, ProjectedSoftmax
from pipeline_lib.models.projection import prediction_head, takes_smaller
from pipeline_lib.records import NO_GUESS, Batch, Drawn, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.params.sections import Train


FINETUNE_EVALUATIONS = 10


class Paws(SupportMethod):
    """Pre-training by view assignment, then fine-tuning on the labels; see docs/explanation/methods.md."""

    NAME: ClassVar[str] = "paws"

    guesses_N: Tensor

    def __init__(self, params: params.Paws, problem: Problem, model: Classifier) -> None:
        super().__init__(self.NAME, params, params.support_views, problem, model)
        self.params, self.phase = params, "pretrain"
        # Of partially labeled images the candidates are not looked at: they are unlabeled ones here.
        self.unlabeled_N = images_with_role(
            problem, "unlabeled", "partial", "labeled_and_unlabeled"
        )
        self.prediction = prediction_head(self.width) if params.prediction_head else nn.Identity()
        no_guess_N = torch.full((len(problem.roles),), NO_GUESS, dtype=torch.int16)
        self.register_buffer("guesses_N", no_guess_N)
        self.linear: nn.Linear | None = None
        if params.finetune == "linear":
            self.linear = nn.Linear(self.width, problem.num_classes)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        self._check()

    def _check(self) -> None:
        problem = self.problem
        small = self.params.small_views
        if small and not takes_smaller(self.model, problem.images_NCHW[:2].cpu()):
            msg = (
                f"methods.{self.NAME}.small_views: {small}, but the network takes images of one size only; set "
                f"it to 0, or choose another model.name"
            )
            raise UserError(msg)
        if len(self.unlabeled_N) == 0:
            msg = (
                f"method: {self.NAME} learns from unlabeled images, and none of the "
                f"{len(self.problem.roles)} training images is one, or a partial one; use split.protocol few_shot, or method snn"
            )
            raise UserError(msg)
        if self.problem.batch_size < 2:
            msg = f"train.batch_size: 1, but the heads of {self.NAME} normalise by the batch; take 2 or more"
            raise UserError(msg)
        each = self.images_per_class * self.params.support_views
        if self.params.finetune == "suncet" and each < 2:
            msg = (
                f"methods.{self.NAME}.images_per_class: {self.images_per_class} in {self.params.support_views} "
                f"view leaves nothing of a class to compare with; raise it or support_views to 2 or more, "
                f"or set finetune to none"
            )
            raise UserError(msg)

    @property
    def variant(self) -> str:
        """What the paper's two settings, CIFAR-10 and ImageNet, differ in."""
        head = "on" if self.params.prediction_head else "off"
        views = 2 + self.params.small_views
        return f"views={views},prediction_head={head},finetune={self.params.finetune}"

    def phases(self, train: Train, steps_per_epoch: int) -> tuple[Phase, ...]:
        """Pre-training as `train` says; fine-tuning at its own rate, without warm-up or weight decay."""
        pretrain = Phase("pretrain", train.epochs * steps_per_epoch, train)
        if self.params.finetune == "none":
            return (pretrain,)
        changes = {
            "learning_rate": self.params.finetune_learning_rate,
            "schedule": "cosine",
            "cosine_cycles": 0.5,
            "cosine_end": 0.1 if self.params.finetune == "suncet" else 0.0,
            "warmup_epochs": 0.0,
            "weight_decay": 0.0,
        }
        if self.params.finetune == "linear":
            changes |= {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}
        tuned = train.model_copy(update=changes)
        steps = self.params.finetune_steps
        # An epoch of the whole set may be longer than all of it, and `train.select` needs a choice.
        often = max(steps // FINETUNE_EVALUATIONS, 1)
        return pretrain, Phase("finetune", steps, tuned, evaluate_every=often)

    @property
    def streams(self) -> dict[str, Stream]:
        """Unlabeled images in all views and the support; in fine-tuning labeled images alone."""
        p, batch_size = self.params, self.problem.batch_size
        if self.phase == "pretrain":
            views = ("global", "global", *["small"] * p.small_views)
            return {
                "unlabeled": Stream(self.unlabeled_N, batch_size, views),
                "support": self.support_stream(*["global"] * p.support_views),
            }
        if self.linear is not None:
            return {"labeled": Stream(self.support_N, batch_size, ("weak",))}
        return {"support": self.support_stream(*["weak"] * p.support_views)}

    @property
    def recordings_per_step(self) -> int:
        """One for each size of views."""
        return 2 if self.params.small_views else 1

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """The loss of the phase."""
        if self.phase == "pretrain":
            return self._pretrain(batch)
        if self.linear is not None:
            logits_BK = self._linear(self.linear).logits(batch.views["labeled"][0])
            return StepOutput(soft_cross_entropy(logits_BK, batch.candidates["labeled"]))
        for layer in batch_norms(self):
            layer.eval()  # official code: with the statistics of pre-training
        embedding_SD = self.embed(torch.cat(batch.views["support"]))
        return StepOutput(losses.suncet_loss(embedding_SD, self.class_S, self.temperature))

    def _pretrain(self, batch: Batch) -> StepOutput:
        """Agreement with the other views' targets, less the entropy of the mean prediction."""
        p, size = self.params, len(self.class_S)
        first, second, *small = batch.views["unlabeled"]
        passes = [torch.cat([*batch.views["support"], first, second])]
        if small:
            passes.append(torch.cat(small))
        h = [self.embed(images_BCHW) for images_BCHW in passes]
        z_BD = torch.cat([self.prediction(h_BD) for h_BD in h])
        log_p_BK = losses.smooth(self._classify(z_BD[size:], z_BD[:size]), p.label_smoothing)
        log_p_VBK = log_p_BK.unflatten(0, (-1, len(first)))
        with torch.no_grad():
            large_2BK = self._classify(h[0][size:], h[0][:size]).unflatten(0, (2, -1))
            smooth_2BK = losses.smooth(large_2BK, p.label_smoothing)
            targets_VBK = losses.view_targets(smooth_2BK, p.sharpening, p.small_views)
        self._remember(batch, targets_VBK[:2])
        agreement = losses.view_assignment_loss(log_p_VBK, targets_VBK)
        negative_entropy = -losses.mean_entropy(log_p_VBK, p.sharpening)
        loss = agreement + p.me_max * negative_entropy
        parts = {
            "agreement_loss": agreement.detach(),
            "mean_entropy_loss": negative_entropy.detach(),
        }
        return StepOutput(loss, parts | self._diagnostics(h[0].detach(), large_2BK, targets_VBK))

    def _classify(self, query_BD: Tensor, support_SD: Tensor) -> Tensor:
        return losses.soft_neighbours(
            query_BD, support_SD, self.class_S, self.classes, self.temperature
        )

    @torch.no_grad()
    def _remember(self, batch: Batch, targets_2BK: Tensor) -> None:
        """Note the classes that the targets are sure of, where a step has all classes to choose from.

        Not the targets: of many images and classes, a table of them would be large.
        """
        if self.classes == self.problem.num_classes:  # then a step has them in their order
            index_B = batch.index["unlabeled"]
            self.guesses_N[index_B] = confident_classes(targets_2BK.mean(dim=0))

    def confident_guesses(self) -> Tensor | None:
        """The targets of pre-training; fine-tuning guesses no label."""
        guesses = self.phase == "pretrain" and self.classes == self.problem.num_classes
        return self.guesses_N if guesses else None

    @torch.no_grad()
    def _diagnostics(
        self, h_BD: Tensor, large_2BK: Tensor, targets_VBK: Tensor
    ) -> dict[str, Tensor]:
        """The other curves of the paper's figure 4, and what tells a collapse: without the labels' smoothing."""
        size = len(self.class_S)
        first_BD, second_BD = h_BD[size:].chunk(2)
        scalars = {
            "instance_discrimination": losses.instance_discrimination_loss(
                first_BD, second_BD, self.temperature
            ),
            "target_confidence": targets_VBK[:2].amax(dim=-1).mean(),
            "prediction_entropy": entropy(large_2BK.exp().mean(dim=(0, 1))),
        }
        if size >= 2 * self.classes:  # else there is nothing to compare with
            scalars["support_classification"] = losses.suncet_loss(
                h_BD[:size], self.class_S, self.temperature
            )
        return scalars

    def _linear(self, linear: nn.Linear) -> ProjectedSoftmax:
        return ProjectedSoftmax(self.model, self.projection, linear)

    def predictor(self) -> Predictor:
        """Soft nearest neighbours, or the linear head once that is trained."""
        if self.linear is not None and self.phase == "finetune":
            return self._linear(self.linear)
        return super().predictor()
