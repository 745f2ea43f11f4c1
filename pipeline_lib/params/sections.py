"""What a section of params.yaml is, and those that do not depend on the method."""

from __future__ import annotations

import reprlib
from pathlib import PurePath
from types import NoneType
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pipeline_lib.params.model_names import check_model_name
from pipeline_lib.params.policy_names import POLICY_SCHEMA, check_policy_name

MOST_PROCESSES = 4096


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, no NaN, and no defaults.

    There are no defaults on purpose: params.yaml names every knob, so what ran is what it says, and
    dvc.lock records it.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _an_empty_value_is_null(cls, content: object) -> object:
        """Take the empty text that `-S data.table=` leaves for the null that an empty value is."""
        if not isinstance(content, dict):
            return content
        fields = cls.model_fields
        nullable = {key for key in fields if NoneType in get_args(fields[key].annotation)}
        return {k: None if v == "" and k in nullable else v for k, v in content.items()}


def _devices(given: object) -> object:
    """Say what is wrong in one line: pydantic would write one for the number and one for the word."""
    if given == "auto" or (type(given) is int and 1 <= given <= MOST_PROCESSES):
        return given
    msg = f"{reprlib.repr(given)}: set a number of processes from 1 to {MOST_PROCESSES}, or auto"
    raise ValueError(msg)


Policy = Annotated[str, AfterValidator(check_policy_name), WithJsonSchema(POLICY_SCHEMA)]
Devices = Annotated[
    Annotated[int, Field(ge=1, le=MOST_PROCESSES)] | Literal["auto"], BeforeValidator(_devices)
]
# Datasets that come from data.path: nobody has published which of their images train and which test.
OWN_IMAGES = ("image_folder", "image_parquet", "imagenet")
ARRAYS = (".mat", ".npy", ".npz", ".pickle", ".pkl")  # in which others publish labels
Selection = Literal["auto", "val_accuracy", "covering_rate", "approximated_accuracy", "last"]


class Data(Section):
    """Which images, and how they are read."""

    name: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "svhn",
        "svhn_extra",
        "fashion_mnist",
        "kuzushiji_mnist",
        "stl10",
        "imagenet",
        "image_folder",
        "image_parquet",
    ]
    """`digits` (1,797 real images, no download), a public dataset (fetched; `imagenet`: from `data.path`), or
    your own: `image_folder`, `image_parquet`."""
    path: str | None
    """image_folder: a folder, a tar, tar.gz or zip archive, or its https URL; in a folder `unlabeled`, beside
    `train`, `val` or `test` or beside the classes, are images without class. image_parquet: a Parquet file or a
    folder of them. imagenet: a folder or archive, or the folder of the official archives."""
    mirror: str | None
    """Public datasets: a folder or https URL that holds their files; null = the publishers' own."""
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")
    """Checksum of the archive; required for a URL, checked for a local archive when given."""
    table: str | None
    """Optional CSV (also .gz), JSON lines or Parquet: per file a label, candidates, or annotators' labels; or a
    list of names (.txt), the files that keep their folder's class. A column `true_label` beside them is for
    measuring only (blank = unknown; `method: oracle` and `split.val_labels: clean` use it): images without a class
    folder are tested by it."""
    fold: int | None = Field(ge=0, le=9)
    """stl10: which of the publisher's ten folds of 1,000 images keeps its labels; null = all 5,000."""
    image_size: int | None = Field(ge=4, le=1024)
    """Side in pixels that every image is resized to; null keeps images that all have one size."""
    resize: Literal["stretch", "center_crop", "pad"]
    """How an image that is no square gets there: distorted, cut at the longer side, or with black borders."""
    channels: Literal["auto", "rgb", "gray"]
    """Colour of the stored images; `auto` is what the dataset has by nature (own images: rgb)."""
    store: Literal["auto", "pixels", "files"]
    """data/images.parquet holds decoded pixels, or the files as they came, decoded when they are read; `auto` =
    pixels up to 96 a side."""
    on_bad_image: Literal["fail", "skip"]
    """An unreadable image stops the run, or goes to data/rejected.parquet."""
    limit: int | None = Field(ge=1)
    """Train on so many images only: of each class its share, at least one, as far as labels are given; null = all."""

    @model_validator(mode="after")
    def _a_table_is_for_own_images(self) -> Self:
        if self.table and self.name == "image_parquet":
            msg = "data.table: image_parquet has its labels beside its images; set it to null"
            raise ValueError(msg)
        if self.table and self.name not in OWN_IMAGES:
            msg = (
                f"data.table: {self.name} has labels of its own; set it to null, or give its images others as "
                f"docs/how-to/datasets.md#other-labels-for-these-images says"
            )
            raise ValueError(msg)
        if self.table and (ending := PurePath(self.table).suffix.lower()) in ARRAYS:
            msg = (
                f"data.table: {self.table}: {ending} is not read; write a table of `file,candidates` "
                f"(docs/how-to/own-data.md#several-candidates)"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _own_images_have_a_place(self) -> Self:
        if self.name in OWN_IMAGES and not self.path:
            msg = f"data.path: {self.name} needs the folder, archive or URL of the images"
            raise ValueError(msg)
        if self.name == "imagenet" and self.image_size is None:
            msg = (
                "data.image_size: the images of imagenet differ in size; set it, for example to 224"
            )
            raise ValueError(msg)
        if self.fold is not None and self.name != "stl10":
            msg = f"data.fold: {self.name} has no folds, only stl10; set it to null"
            raise ValueError(msg)
        if self.mirror and "://" in self.mirror and not self.mirror.startswith("https://"):
            msg = "data.mirror: a folder or an https URL"
            raise ValueError(msg)
        if self.path and "://" in self.path:
            if not self.path.startswith("https://"):
                msg = "data.path: only https URLs are fetched"
                raise ValueError(msg)
            if self.sha256 is None:
                msg = "data.sha256: a URL needs the sha256 of its file"
                raise ValueError(msg)
        return self


class Model(Section):
    """The network."""

    name: str
    """`small_cnn`, `lenet`, `wrn_28_2`, `wrn_34_10`, `mobilenet_v1`, or any torchvision classifier, e.g.
    `resnet18`."""
    width: int = Field(ge=1, le=4096)
    """Channels of the first stage of `small_cnn`; the other networks ignore it."""
    alpha: float = Field(gt=0, le=4)
    """Width multiplier of `mobilenet_v1`; the other networks ignore it."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout inside the residual blocks of the `wrn` networks, before the classifier elsewhere."""
    bn_momentum: float = Field(gt=0, le=1)
    """Of batch normalisation, in torch's sense: the weight of the newest batch."""
    stem: Literal["auto", "small", "original"]
    """torchvision and `mobilenet_v1`: a first layer for small images, or the original one; `auto` = small up
    to 64 px."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return check_model_name(name)


class Train(Section):
    """How the network is trained, whatever the method."""

    epochs: int = Field(ge=0)
    """Length of the training; 0 = none (`two_phase` has lengths of its own)."""
    steps_per_epoch: int | None = Field(ge=1)
    """null = training images / batch_size, the same for every method."""
    batch_size: int = Field(ge=1)
    """Images per step (semi-supervised methods: labeled images per step)."""
    optimizer: Literal["sgd", "adam", "adamw", "lars"]
    """The rule that turns gradients into steps; `adamw` decouples the weight decay, `lars` scales the step
    of each layer by its own size (You et al. 2017)."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    momentum: float = Field(ge=0, lt=1)
    """SGD momentum; the first beta of Adam and AdamW."""
    nesterov: bool
    """SGD: Nesterov momentum."""
    weight_decay: float = Field(ge=0)
    """Strength of the pull of the weights towards zero."""
    decay: Literal["all", "kernels"]
    """Which parameters it pulls: all, or the weights of convolutions and linear layers only (the official
    codes of MixMatch and PAWS); `lars` also scales no others."""
    schedule: Literal["constant", "one_cycle", "cosine", "multi_step"]
    """The course of the learning rate over the training."""
    warmup_epochs: float = Field(ge=0)
    """Linear warm-up before `constant`, `cosine` and `multi_step`."""
    warmup_start: float = Field(ge=0, le=1)
    """Share of the peak that it starts from (PAWS on CIFAR-10: 0.25)."""
    milestones: list[Annotated[int, Field(ge=1)]]
    """multi_step: epochs after which the learning rate is multiplied by gamma."""
    gamma: float = Field(gt=0, le=1)
    """multi_step: the factor."""
    cosine_cycles: float = Field(gt=0, le=0.5)
    """cosine: share of a full period; 0.5 ends at `cosine_end`, FixMatch's 7/32 stops before."""
    cosine_end: float = Field(ge=0, le=1)
    """cosine of 0.5 cycles: share of the peak at the end (PAWS: 0.01)."""
    clip_gradient: float | None = Field(gt=0)
    """Largest norm of the gradient; null = no clipping."""
    ema_decay: float = Field(ge=0, lt=1)
    """Evaluate an exponential moving average of the weights; 0 = the weights themselves."""
    select: Selection
    """Which epoch's weights are kept, judged on the validation images only. `covering_rate`: how often the predicted
    class is a candidate; `approximated_accuracy`: the same, each weighed by the class's share of the probability on
    the candidates; `auto`: the first of `val_accuracy`, `covering_rate`, `last` that the labels allow."""
    keep_last: int = Field(ge=0)
    """Last evaluations whose weights are kept too: their median test accuracy is reported (MixMatch: 20)."""
    collapse: float = Field(ge=0, lt=1)
    """Methods that learn from unlabeled images: stop if their mean prediction has less than this share of the
    largest entropy; 0 = never."""
    patience: int | None = Field(ge=1)
    """Stop after so many evaluations without a better one; null = never."""
    evaluate_every: int = Field(ge=1)
    """Epochs between evaluations on the validation images."""
    weak_augment: Policy
    """The view that methods call weak; `auto` is what suits the data."""
    strong_augment: Policy
    """The view that methods call strong; `auto` is what suits the data."""
    global_augment: Policy
    """The large view of PAWS; `auto` is what suits the data."""
    small_augment: Policy
    """The small view of PAWS, a crop of its own size; `auto` is what suits the data."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where training and evaluation run; `auto`: cuda, else mps, else cpu."""
    devices: Devices
    """Processes that share each step, one per GPU (or, on CPU, one per so many threads); `auto`: all GPUs. Batches
    stay as they are, cut into parts."""
    precision: Literal["fp32", "bf16"]
    """`bf16`: faster on GPUs, and with `reproducible: this_machine` on processors with avx512_bf16 or AMX; several
    times slower on others."""
    gpu_steps: Literal["plain", "replayed", "compiled"]
    """On CUDA: `replayed` records the kernels of a step once and launches them as one (a CUDA graph), with the
    same result as `plain`; `compiled` also lets torch.compile fuse them, which takes half a minute at the start
    and may change the last bits."""
    threads: int = Field(ge=1, le=1024)
    """CPU threads; part of the result, bit by bit."""
    reproducible: Literal["any_cpu", "this_machine"]
    """`any_cpu`: the same bits on every x86-64 processor with AVX2; `this_machine`: faster."""
    checkpoint_seconds: float = Field(gt=0)
    """Seconds between saves of the resume state; more where they would take over 1 % of the time."""
    checkpoint_steps: int | None = Field(ge=1)
    """Steps between saves of the resume state, besides; null = none."""
    memory_budget: float | None = Field(gt=0)
    """GiB of images that may be kept in memory, on the device too; more are read from a file beside the resume
    state. null = half of what is free; of the host's memory, 2 GiB are left out first, or an eighth is taken."""

    @field_validator("weak_augment", "strong_augment", "global_augment")
    @classmethod
    def _keeps_the_size(cls, policy: str) -> str:
        if policy.startswith("small_"):
            msg = f"{policy!r} makes images smaller, which only train.small_augment may"
            raise ValueError(msg)
        return policy

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule == "multi_step" and not self.milestones:
            msg = "train.milestones: multi_step needs at least one epoch"
            raise ValueError(msg)
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            msg = "train.nesterov: needs a momentum above 0"
            raise ValueError(msg)
        if self.patience is not None and self.select == "last":
            msg = "train.patience: needs a rule by which an evaluation can be worse; set train.select to another, or patience to null"
            raise ValueError(msg)
        return self


class Evaluate(Section):
    """How the result is measured."""

    batch_size: int = Field(ge=1)
    """Images per forward pass; fewer if they are large (83 of 224 pixels a side)."""
    calibration_bins: int = Field(ge=2, le=100)
    """Bins of the reliability diagram and of ECE."""


class Report(Section):
    """What the page shows."""

    grid_images: int = Field(ge=0, le=100)
    """Training images shown with their candidates."""
    worst_mistakes: int = Field(ge=0, le=100)
    """Test images shown with the most confident wrong prediction."""
