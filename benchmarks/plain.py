"""The straightforward way to train: a loader with PIL transforms, a forward pass per view, plain updates.

What `training_step.py` and `gpu_steps.py` compare with. FixMatch alone has one pass, as it is usually written. Losses
are the project's own functions, so that both sides do the same maths; everything around them is written as in a first
version that works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import augmentation
from benchmarks.augmentation import MEAN, STD
from pipeline_lib.augment.mixing import mix
from pipeline_lib.losses import paws
from pipeline_lib.losses.common import sharpen, soft_cross_entropy, uniform_targets
from pipeline_lib.losses.partial import complementary_loss, conformal_targets, consistency_loss
from pipeline_lib.losses.semi import brier_loss, mean_log_prediction, pseudo_label_loss
from pipeline_lib.methods.mixmatch import interleaved
from pipeline_lib.models.wide_resnet import WideResNet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image
    from torch import Tensor

    from benchmarks.augmentation import View
    from pipeline_lib.records import Stream

SIDE = 32
EMA_DECAY = 0.999


class Images(Dataset[tuple["int", tuple["Tensor", ...]]]):
    """Images of a stream, and the views that a step wants of them."""

    def __init__(
        self, images: Sequence[Image.Image], chosen: Sequence[int], views: Sequence[View]
    ) -> None:
        normal = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        self.images, self.chosen = images, chosen
        self.views = [transforms.Compose([view, normal]) for view in views]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.chosen)

    def __getitem__(self, number: int) -> tuple[int, tuple[Tensor, ...]]:
        """Its position among all images, and its views."""
        position = self.chosen[number]
        return position, tuple(view(self.images[position]) for view in self.views)


def loaders(
    images: Sequence[Image.Image], streams: Mapping[str, Stream], workers: int
) -> dict[str, Iterator[Any]]:
    """Endless batches of each stream."""
    workers_of = shared(workers, streams)
    weak = transforms.Compose(augmentation.weak(SIDE))
    _, randaugment = augmentation.randaugment(SIDE)
    _, autoaugment, _ = augmentation.autoaugment(SIDE)
    large, *_, small = augmentation.paws(SIDE)
    strong = autoaugment if "train" in streams else randaugment
    known = {"weak": weak, "strong": strong, "global": large, "small": small}
    return {
        name: _endless(
            DataLoader(
                Images(images, stream.pool_N.tolist(), [known[view] for view in stream.views]),
                stream.batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=workers_of[name],
                persistent_workers=workers > 0,
                pin_memory=torch.cuda.is_available(),
            )
        )
        for name, stream in streams.items()
    }


def shared(workers: int, streams: Mapping[str, Stream]) -> dict[str, int]:
    """Workers of each stream, in proportion to the views that it makes in a step, and one at least; 0 of 0."""
    views = {name: stream.batch_size * len(stream.views) for name, stream in streams.items()}
    each = workers / sum(views.values())
    return {name: max(min(workers, 1), round(each * number)) for name, number in views.items()}


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


class Plain(nn.Module):
    """WRN-28-2, a head, and a method's tables.

    Args:
        candidates_NK: bool.
        params: the method's section.
        head: to logits, or to embeddings.
    """

    candidates_NK: Tensor
    targets_NK: Tensor

    def __init__(self, candidates_NK: Tensor, params: Any, head: nn.Module) -> None:  # noqa: ANN401
        super().__init__()
        self.params = params
        self.register_buffer("candidates_NK", candidates_NK.float())
        self.register_buffer("targets_NK", uniform_targets(candidates_NK))
        self.encoder = WideResNet(3, 28, 2, slope=0.1, dropout=0.0, bn_momentum=0.1)
        self.head = head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits, or embeddings."""
        outputs: Tensor = self.head(self.encoder(images_BCHW)).float()
        return outputs


class CrDpll(Plain):
    """Three forward passes with gradient."""

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Supervised and consistency term."""
        index_B, views = batch["train"]
        candidates_BK = self.candidates_NK[index_B]
        logits = [self(view_BCHW) for view_BCHW in views]
        agreement = consistency_loss(self.targets_NK[index_B], logits)
        self.targets_NK[index_B] = conformal_targets(logits, candidates_BK)
        return complementary_loss(logits[0], candidates_BK) + agreement


class MixMatch(Plain):
    """Two passes for the guesses, and one for each interleaved batch."""

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Cross-entropy and squared error of mixed images."""
        (index_B, (labeled_BCHW,)), (_, views) = batch["labeled"], batch["unlabeled"]
        with torch.no_grad():
            log_p_UK = mean_log_prediction([self(view_UCHW) for view_UCHW in views])
            q_UK = sharpen(log_p_UK, self.params.temperature)
        size = len(labeled_BCHW)
        images_NCHW = torch.cat([labeled_BCHW, *views])
        targets_NK = torch.cat([self.targets_NK[index_B], q_UK.repeat(len(views), 1)])
        shares_N = torch.distributions.Beta(self.params.alpha, self.params.alpha).sample(
            (len(images_NCHW),)
        )
        shares_N = shares_N.to(images_NCHW.device)
        shares_N = torch.maximum(shares_N, 1 - shares_N)
        partner_N = torch.randperm(len(images_NCHW))
        images_NCHW = mix(images_NCHW, images_NCHW[partner_N], shares_N)
        targets_NK = mix(targets_NK, targets_NK[partner_N], shares_N)
        order_GB = interleaved(len(images_NCHW) // size, size, images_NCHW.device)
        logits_NK = torch.cat([self(images_NCHW[order_B]) for order_B in order_GB])
        logits_NK = logits_NK[order_GB.flatten()]
        supervised = soft_cross_entropy(logits_NK[:size], targets_NK[:size])
        return supervised + self.params.lambda_u * brier_loss(logits_NK[size:], targets_NK[size:])


class FixMatch(Plain):
    """One pass, as usual: the batch statistics are those of all views."""

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Cross-entropy on labels and on pseudo-labels."""
        index_B, labeled = batch["labeled"]
        _, unlabeled = batch["unlabeled"]
        views = [*labeled, *unlabeled]
        labeled_BK, weak_UK, strong_UK = self(torch.cat(views)).split([len(view) for view in views])
        supervised = soft_cross_entropy(labeled_BK, self.targets_NK[index_B])
        with torch.no_grad():
            p_UK = torch.softmax(weak_UK, dim=1)
            weights_U = (p_UK.amax(dim=1) >= self.params.threshold).float()
        return supervised + pseudo_label_loss(strong_UK, p_UK, weights_U)


class Paws(Plain):
    """A pass over each view of the images, and over each view of the support."""

    def loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Agreement less the entropy of the mean prediction."""
        p, ((index_S, support), (_, views)) = self.params, (batch["support"], batch["unlabeled"])
        class_S = self.candidates_NK[index_S].argmax(dim=1).repeat(len(support))
        support_SD = torch.cat([self(view_SCHW) for view_SCHW in support])
        classes = self.candidates_NK.shape[1]
        log_p = [
            paws.smooth(
                paws.soft_neighbours(self(view_BCHW), support_SD, class_S, classes, p.temperature),
                p.label_smoothing,
            )
            for view_BCHW in views
        ]
        log_p_VBK = torch.stack(log_p)
        targets_VBK = paws.view_targets(log_p_VBK[:2].detach(), p.sharpening, p.small_views)
        agreement = paws.view_assignment_loss(log_p_VBK, targets_VBK)
        return agreement - p.me_max * paws.mean_entropy(log_p_VBK, p.sharpening)


def moved(
    batch: tuple[Tensor, Sequence[Tensor]], device: torch.device
) -> tuple[Tensor, list[Tensor]]:
    """To the device."""
    position_B, views = batch
    return position_B.to(device, non_blocking=True), [
        view.to(device, non_blocking=True) for view in views
    ]


PLAIN = {"cr_dpll": CrDpll, "mixmatch": MixMatch, "fixmatch": FixMatch, "paws": Paws}


def steps(
    model: Plain,
    batches: Mapping[str, Iterator[Any]],
    optimizer: torch.optim.Optimizer,
    *,
    half: bool = False,
) -> Iterator[float]:
    """Train; the loss of every step."""
    device = model.candidates_NK.device
    averages = [parameter.detach().clone() for parameter in model.parameters()]
    while True:
        batch = {name: moved(next(stream), device) for name, stream in batches.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averages, model.parameters(), strict=True):
                average.mul_(EMA_DECAY).add_(parameter, alpha=1 - EMA_DECAY)
        yield float(loss.detach())
