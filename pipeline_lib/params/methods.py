"""The hyper-parameters of each method, and which kind of labels it learns from.

One class per module of `pipeline_lib/methods/`; the field of `Methods`, the section of params.yaml and
the module share their name.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.errors import did_you_mean
from pipeline_lib.params.sections import Section
from pipeline_lib.records import Kind

# Published methods, in small letters without marks between: none of these is another one mistyped.
NOT_OFFERED = {
    *("adamatch", "comatch", "crmatch", "dash", "flexmatch", "meanteacher", "pimodel", "pseudolabel"),
    *("refixmatch", "remixmatch", "sequencematch", "simmatch", "uda", "vat"),
    *("able", "absgce", "absmae", "alim", "cavl", "crosel", "dirk", "fredis", "idgp", "nn", "papi"),
    *("pc", "picoplus", "pop", "rc", "solar", "valen"),
}  # fmt: skip
ELSEWHERE = {"fullysupervised": "oracle"}  # what USB calls those that are


class MethodSection(Section):
    """The hyper-parameters of a method, and what others must know of it."""

    KIND: ClassVar[Kind]
    """What it learns from; `split.protocol: auto` makes it."""
    ONLY_LABELED: ClassVar[bool] = False
    """It learns nothing from an image with several candidates."""
    IN_EPOCHS: ClassVar[bool] = True
    """`train.epochs` says how long it trains."""
    PHASE_STEPS: ClassVar[tuple[str, ...]] = ()
    """Its parameters that count steps of phases besides those epochs."""
    RAMP_STEPS: ClassVar[str | None] = None
    """That which counts steps of a ramp within them."""


class SingleView(MethodSection):
    """What methods have that look at every image in one view."""

    view: Literal["weak", "strong"]
    """Augmentation of the single view."""


class CrDpll(MethodSection):
    """Consistency regularization for deep partial-label learning (Wu, Wang, Zhang; ICML 2022)."""

    KIND: ClassVar[Kind] = "partial"
    lambda_max: float = Field(ge=0)
    """Final weight of the consistency term (paper: 1)."""
    ramp_epochs: int = Field(ge=0)
    """Epochs over which the weight grows linearly; 0 = full weight from the start (official code: 100)."""
    ramp_start: Literal["zero", "one_step"]
    """Weight in the first epoch: `zero`, as the official code, or `one_step`, (epoch + 1) / ramp_epochs."""
    bn: Literal["per_view", "joint"]
    """Batch statistics of each of the three views (official code), or of all of them together."""


class Proden(SingleView):
    """Progressive identification of true labels (Lv et al.; ICML 2020)."""

    KIND: ClassVar[Kind] = "partial"


class Average(SingleView):
    """Mean over the candidates: cross-entropy against the uniform distribution on them."""

    KIND: ClassVar[Kind] = "partial"


class Supervised(SingleView):
    """Cross-entropy on the labeled images only; the others are never looked at."""

    KIND: ClassVar[Kind] = "few_shot"
    ONLY_LABELED: ClassVar[bool] = True


class MixMatch(MethodSection):
    """Guessed labels, sharpened, and MixUp of everything with everything (Berthelot et al.; NeurIPS 2019)."""

    KIND: ClassVar[Kind] = "few_shot"
    RAMP_STEPS: ClassVar[str | None] = "ramp_steps"
    unlabeled_ratio: int = Field(ge=1)
    """Unlabeled images per labeled image in a step (paper: 1)."""
    guesses: int = Field(ge=1)
    """K, weak views of an unlabeled image whose predictions are averaged (paper: 2)."""
    temperature: float = Field(gt=0)
    """T of the sharpening (paper: 0.5); 1 leaves the guess as it is."""
    alpha: float = Field(gt=0)
    """MixUp draws its share from Beta(alpha, alpha) (paper: 0.75)."""
    mixup: Literal["all", "labeled", "unlabeled", "separate", "none"]
    """What is mixed: `all` with all (paper), one of the two sets, each with itself, or nothing (ablations)."""
    lambda_u: float = Field(ge=0)
    """Final weight of the unlabeled term (paper: 75 on CIFAR-10, 250 on SVHN)."""
    ramp_steps: int = Field(ge=0)
    """Steps over which that weight grows linearly (paper: 16,000; official code: 16,384)."""
    bn: Literal["interleaved", "joint"]
    """Forward passes over interleaved batches, the first one updating the running statistics (official
    code), or one pass over everything."""


class FixMatch(MethodSection):
    """Confident predictions on weak views as labels of strong ones (Sohn et al.; NeurIPS 2020)."""

    KIND: ClassVar[Kind] = "few_shot"
    unlabeled_ratio: int = Field(ge=1)
    """mu, unlabeled images per labeled image in a step (paper: 7)."""
    threshold: float = Field(ge=0, le=1)
    """Smallest confidence of a pseudo-label (paper: 0.95)."""
    lambda_u: float = Field(ge=0)
    """Weight of the unlabeled term (paper: 1)."""


class FreeMatch(MethodSection):
    """FixMatch with thresholds that adapt, overall and per class (Wang et al.; ICLR 2023)."""

    KIND: ClassVar[Kind] = "few_shot"
    unlabeled_ratio: int = Field(ge=1)
    """mu, unlabeled images per labeled image in a step (paper: 7)."""
    decay: float = Field(ge=0, lt=1)
    """Of the moving averages behind the thresholds (paper: 0.999)."""
    lambda_u: float = Field(ge=0)
    """Weight of the unlabeled term (paper: 1)."""
    lambda_fairness: float = Field(ge=0)
    """Weight of the fairness term (USB: 0.001 on CIFAR-10 at every budget)."""


class SoftMatch(MethodSection):
    """Every pseudo-label counts, by how confident it is among its like (Chen et al.; ICLR 2023)."""

    KIND: ClassVar[Kind] = "few_shot"
    unlabeled_ratio: int = Field(ge=1)
    """mu, unlabeled images per labeled image in a step (paper: 7)."""
    decay: float = Field(ge=0, lt=1)
    """Of the moving averages of confidence (paper: 0.999)."""
    sigmas: float = Field(gt=0)
    """Divides the standard deviation of the truncated Gaussian: 1 (formula), 2 (paper's experiments, code)."""
    uniform_alignment: bool
    """Weigh by predictions aligned to equal classes (paper)."""
    lambda_u: float = Field(ge=0)
    """Weight of the unlabeled term (paper: 1)."""


class Snn(MethodSection):
    """Soft nearest neighbours learned on the labels alone (SuNCEt loss; the baseline of PAWS)."""

    KIND: ClassVar[Kind] = "few_shot"
    ONLY_LABELED: ClassVar[bool] = True
    classes_per_batch: int | None = Field(ge=2)
    """Classes of which a step draws images; null = all."""
    images_per_class: int = Field(ge=2)
    """Labeled images drawn of each."""
    temperature: float = Field(gt=0)
    """tau of the similarities (paper: 0.1)."""
    projection_layers: int = Field(ge=0)
    """Layers of the projection head; 0 = none (paper: 3)."""
    projection_width: int | None = Field(ge=1)
    """Its width; null = that of the features."""


class Paws(MethodSection):
    """Views predicted alike from labeled support images (Assran et al.; ICCV 2021)."""

    KIND: ClassVar[Kind] = "few_shot"
    ONLY_LABELED: ClassVar[bool] = True
    PHASE_STEPS: ClassVar[tuple[str, ...]] = ("finetune_steps",)
    classes_per_batch: int | None = Field(ge=2)
    """Classes in the support set of a step; null = all (paper: all 10; ImageNet: 960)."""
    images_per_class: int = Field(ge=1)
    """Support images of each class (paper: 64; ImageNet: 7)."""
    support_views: int = Field(ge=1)
    """Views of each support image (official code: 2 on CIFAR-10, 1 on ImageNet)."""
    small_views: int = Field(ge=0)
    """Small views of each image beside the two large ones (paper: 6)."""
    temperature: float = Field(gt=0)
    """tau of the similarities (paper: 0.1)."""
    sharpening: float = Field(gt=0, le=1)
    """T of the targets (paper: 0.25); 1 = off."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Of the support labels (paper: 0.1)."""
    me_max: float = Field(ge=0)
    """Weight of the mean-entropy maximisation (paper: 1); 0 = off."""
    projection_layers: int = Field(ge=0)
    """Layers of the projection head; 0 = none (paper: 3)."""
    projection_width: int | None = Field(ge=1)
    """Its width; null = that of the features."""
    prediction_head: bool
    """A head behind the projection of the anchor views (paper: on ImageNet, not on CIFAR-10)."""
    finetune: Literal["suncet", "linear", "none"]
    """After pre-training: SuNCEt on the support (CIFAR), a linear head on the first projection layer
    (ImageNet), or nothing."""
    finetune_steps: int = Field(ge=0)
    """Its length (official code on CIFAR-10: 180)."""
    finetune_learning_rate: float = Field(gt=0)
    """Its peak, which falls along a cosine (official code: 0.1 on CIFAR-10, 0.02 on ImageNet)."""


class Pawsb(Paws):
    """PAWS in its base configuration: one device, small support, soft nearest neighbours, no fine-tuning."""


class TwoPhase(MethodSection):
    """Find the settings, train supervised until stable, then semi-supervised until stable.

    `train.epochs` (but for 0, which trains nothing) and the schedule of `train` play no part.
    """

    KIND: ClassVar[Kind] = "few_shot"
    IN_EPOCHS: ClassVar[bool] = False
    PHASE_STEPS: ClassVar[tuple[str, ...]] = (
        "warmup_steps",
        "supervised_steps",
        "semi_supervised_steps",
    )
    semi_supervised: Literal["noisy_student", "fixmatch"]
    """What the second phase does."""
    batch_size: int | None = Field(ge=1)
    """Labeled images per step; null = found by doubling."""
    largest_batch: int = Field(ge=1)
    """The search for a batch size ends here."""
    learning_rate: float | None = Field(gt=0)
    """Peak learning rate; null = found by a range test."""
    warmup_steps: int = Field(ge=0)
    """Steps of linear warm-up: before the supervised phase, and the first ones of the other (Masterful: 500 each)."""
    supervised_steps: int = Field(ge=0)
    """Most steps of the supervised phase."""
    semi_supervised_steps: int = Field(ge=0)
    """Most steps of the semi-supervised phase, with its warm-up."""
    patience: int = Field(ge=1)
    """Evaluations without progress that make a plateau."""
    tolerance: float = Field(ge=0, lt=1)
    """A loss lower by this share is progress."""
    reductions: int = Field(ge=0)
    """Plateaus at which the learning rate falls instead; the next one ends the phase."""
    reduction_factor: float = Field(gt=0, lt=1)
    """What it is multiplied by."""
    unlabeled_ratio: int = Field(ge=1)
    """Unlabeled images per labeled image in a step of the second phase."""
    lambda_u: float = Field(ge=0)
    """Weight of the unlabeled term."""
    threshold: float | None = Field(ge=0, le=1)
    """Smallest confidence of a pseudo-label; null = 0 for noisy_student, 0.95 for fixmatch."""
    student: Literal["continued", "fresh"]
    """noisy_student: the student starts as its teacher, or (that paper) from the untrained weights."""


class Cc(SingleView):
    """Class-consistent: maximum likelihood of the candidate set (Feng et al.; NeurIPS 2020)."""

    KIND: ClassVar[Kind] = "partial"


class Lws(SingleView):
    """Leveraged weighted loss: candidates against the others, class by class (Wen et al.; ICML 2021)."""

    KIND: ClassVar[Kind] = "partial"
    beta: float = Field(ge=0)
    """Weight of the non-candidates (paper: 1 or 2)."""


class Pico(MethodSection):
    """Contrastive learning and prototypes that clear up the candidates (Wang et al.; ICLR 2022)."""

    KIND: ClassVar[Kind] = "partial"
    embedding: int = Field(ge=2)
    """Width of the contrastive embedding (paper: 128)."""
    queue: int = Field(ge=1)
    """Embeddings kept to compare with (paper: 8,192)."""
    temperature: float = Field(gt=0)
    """tau of the similarities (paper: 0.07)."""
    contrast_weight: float = Field(ge=0)
    """Weight of the contrastive term (paper: 0.5)."""
    key_decay: float = Field(ge=0, lt=1)
    """Of the moving average of the weights that embeds the keys (paper: 0.999)."""
    prototype_decay: float = Field(ge=0, lt=1)
    """Of the class prototypes (paper: 0.99)."""
    phi_start: float = Field(ge=0, le=1)
    """Weight of the old label distribution at the start (paper: 0.95)."""
    phi_end: float = Field(ge=0, le=1)
    """Likewise at the end (paper: 0.8)."""
    prototypes_from: int = Field(ge=0)
    """0-based epoch from which prototypes guide labels and positives (paper: 1)."""


class Oracle(SingleView):
    """The baseline of all labels: cross-entropy on the true label of every training image."""

    KIND: ClassVar[Kind] = "clean"


class Methods(Section):
    """One section per method; only the chosen one is a dependency of training."""

    cr_dpll: CrDpll
    proden: Proden
    average: Average
    cc: Cc
    lws: Lws
    pico: Pico
    supervised: Supervised
    snn: Snn
    mixmatch: MixMatch
    fixmatch: FixMatch
    freematch: FreeMatch
    softmatch: SoftMatch
    paws: Paws
    pawsb: Pawsb
    two_phase: TwoPhase
    oracle: Oracle


KINDS: dict[str, Kind] = {
    name: field.annotation.KIND  # type: ignore[union-attr]  # every field's annotation is a Section
    for name, field in Methods.model_fields.items()
}


def why_no_method(name: str) -> str:
    """Say what is wrong with a name that is none of `KINDS`."""
    names, plain = ", ".join(KINDS), name.casefold().replace("-", "").replace("_", "")
    if plain in NOT_OFFERED:
        return f"is not offered; methods are {names}"
    return f"is not one of {names}{did_you_mean(ELSEWHERE.get(plain, name), KINDS)}"
