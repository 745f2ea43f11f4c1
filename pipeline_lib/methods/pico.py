"""PiCO: contrastive learning, and class prototypes that clear up the candidates.

Wang, Xiao, Li, Feng, Niu, Chen, Zhao: PiCO: Contrastive Label Disambiguation for Partial Label Learning,
ICLR 2022.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline_lib.losses.common import soft_cross_entropy, telling, uniform_targets, wide
from pipeline_lib.losses.partial import contrastive_loss, disambiguated, moved_prototypes
from pipeline_lib.methods.base import Method, all_images
from pipeline_lib.models.projection import headless
from pipeline_lib.records import Batch, Clock, Drawn, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.rng import StepRng

EMPTY = -1  # class of a place in the queue that no embedding has taken yet


class Pico(Method):
    """A classifier trained on label distributions, which follow the prototypes of a contrastive embedding.

    The weak view is the query: it carries gradient, is classified, and moves the prototypes. The strong view
    is embedded by the key network, a moving average of the weights. Unlike in the official code, places of the
    queue that are still empty are compared with nothing, instead of holding random vectors.
    """

    targets_NK: Tensor
    prototypes_KD: Tensor
    queue_QD: Tensor
    queue_class_Q: Tensor
    place: Tensor

    def __init__(self, params: params.Pico, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.params = params
        inputs, width = model.head.in_features, params.embedding
        self.projection = nn.Sequential(
            nn.Linear(inputs, inputs), nn.ReLU(inplace=True), nn.Linear(inputs, width)
        )
        self.key_model = headless(copy.deepcopy(model)).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.register_buffer("targets_NK", uniform_targets(problem.candidates_NK))
        self.register_buffer("prototypes_KD", torch.zeros(problem.num_classes, width))
        self.register_buffer("queue_QD", torch.zeros(params.queue, width))
        self.register_buffer("queue_class_Q", torch.full((params.queue,), EMPTY))
        self.register_buffer("place", torch.tensor(0))

    @property
    def streams(self) -> dict[str, Stream]:
        """Every training image, in a weak and a strong view."""
        views = ("weak", "strong")
        return {"train": Stream(all_images(self.problem), self.problem.batch_size, views)}

    def draw(self, clock: Clock, rng: StepRng) -> Drawn:
        """Whether prototypes guide, and the weight of the old label distribution."""
        del rng
        guided = clock.epoch >= self.params.prototypes_from
        return {"guided": torch.tensor(guided), "phi": torch.tensor(self.phi(clock))}

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Cross-entropy against the label distributions, and the contrastive term."""
        index_B, candidates_BK = batch.index["train"], batch.candidates["train"]
        weak_BCHW, strong_BCHW = batch.views["train"]
        features_BF = self.model.features(weak_BCHW)
        logits_BK = self.model.head(features_BF).float()
        query_BD = unit(self.projection(features_BF))
        key_BD = self._keys(strong_BCHW)
        class_B = logits_BK.detach().masked_fill(candidates_BK == 0, -torch.inf).argmax(dim=1)
        self._disambiguate(index_B, query_BD.detach(), candidates_BK, drawn)
        contrast = self._contrast(query_BD, key_BD, class_B, drawn["guided"])
        targets_BK = telling(candidates_BK) * self.targets_NK[index_B]
        classified = soft_cross_entropy(logits_BK, targets_BK)
        self.prototypes_KD.copy_(
            moved_prototypes(self.prototypes_KD, query_BD, class_B, self.params.prototype_decay)
        )
        self._enqueue(key_BD, class_B)
        return StepOutput(
            loss=classified + self.params.contrast_weight * contrast,
            scalars={
                "classification_loss": classified.detach(),
                "contrastive_loss": contrast.detach(),
            },
        )

    @torch.no_grad()
    def _keys(self, images_BCHW: Tensor) -> Tensor:
        """Embed by the key network, after its weights have moved towards those in training (BD)."""
        pairs = (
            (self.model.encoder, self.key_model.encoder),
            (self.projection, self.key_projection),
        )
        for trained, averaged in pairs:
            for new, old in zip(trained.parameters(), averaged.parameters(), strict=True):
                old.lerp_(new, 1 - self.params.key_decay)
        return unit(self.key_projection(self.key_model.features(images_BCHW)))

    def _disambiguate(
        self, index_B: Tensor, query_BD: Tensor, candidates_BK: Tensor, drawn: Drawn
    ) -> None:
        """Move the label distributions once prototypes guide; these are those before this step."""
        before_BK = self.targets_NK[index_B]
        moved_BK = disambiguated(
            before_BK, query_BD, self.prototypes_KD, candidates_BK, drawn["phi"]
        )
        self.targets_NK[index_B] = torch.where(drawn["guided"], moved_BK, before_BK)

    def phi(self, clock: Clock) -> float:
        """Weight of the old label distribution: linear in the epoch."""
        share = clock.epoch * clock.steps_per_epoch / clock.total_steps
        return self.params.phi_start + share * (self.params.phi_end - self.params.phi_start)

    def _contrast(
        self, query_BD: Tensor, key_BD: Tensor, class_B: Tensor, guided: Tensor
    ) -> Tensor:
        """Each query against the other queries, all keys and the queue; at first its own key and the queue."""
        size, device = len(query_BD), query_BD.device
        others_MD = torch.cat([query_BD, key_BD, self.queue_QD])
        class_M = torch.cat([class_B, class_B, self.queue_class_Q])
        itself_BB = torch.eye(size, dtype=torch.bool, device=device)
        own_BM = torch.zeros(size, len(class_M), dtype=torch.bool, device=device)
        own_BM[:, size : 2 * size] = itself_BB
        known_BM = (class_M != EMPTY).repeat(size, 1)
        known_BM[:, :size] = ~itself_BB
        alike_BM = known_BM & (class_B[:, None] == class_M)
        queued_BM = own_BM.clone()
        queued_BM[:, 2 * size :] = self.queue_class_Q != EMPTY
        compared_BM = torch.where(guided, known_BM, queued_BM)
        positive_BM = torch.where(guided, alike_BM, own_BM)
        temperature = self.params.temperature
        return contrastive_loss(query_BD, others_MD, positive_BM, compared_BM, temperature)

    def _enqueue(self, key_BD: Tensor, class_B: Tensor) -> None:
        """Let the newest keys take the places of the oldest."""
        count = min(len(key_BD), self.params.queue)
        places_B = (self.place + torch.arange(count, device=key_BD.device)) % self.params.queue
        self.queue_QD[places_B] = key_BD[-count:]
        self.queue_class_Q[places_B] = class_B[-count:]
        self.place.copy_((self.place + count) % self.params.queue)

    def label_state(self) -> Tensor:
        """The label distributions."""
        return self.targets_NK


def unit(embedding_BD: Tensor) -> Tensor:
    """Vectors of unit length, in float32."""
    return nn.functional.normalize(wide(embedding_BD), dim=1)
