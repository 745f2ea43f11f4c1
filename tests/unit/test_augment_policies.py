"""The named policies: what a view may depend on, and the tables of the published ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import autoaugment as oracle

from pipeline_lib.augment import policies
from pipeline_lib.augment.autoaugment import CIFAR10_POLICY, SVHN_POLICY, AutoAugment, Slot
from pipeline_lib.augment.blur import GaussianBlur
from pipeline_lib.augment.jitter import ColourJitter, Sometimes
from pipeline_lib.augment.occlusion import Cutout
from pipeline_lib.augment.operations import Op, magnitudes
from pipeline_lib.augment.policies import Strength, policy, resolve
from pipeline_lib.augment.randaugment import OPS, RandAugment
from pipeline_lib.augment.resized_crop import ResizedCrop
from pipeline_lib.errors import UserError
from pipeline_lib.params.policy_names import POLICIES
from tests.views import generator, noise

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [name for name in POLICIES if name != "auto"]
SHAPES = [(3, 32, 32), (1, 8, 8), (1, 28, 28), (3, 4, 4), (3, 11, 6)]
SIDES = {
    "small_crop": 18 / 32,
    "small_numbers": 18 / 32,
    "small_characters": 18 / 32,
    "small_affine": 6 / 8,
    "small_imagenet": 96 / 224,
}
"""Policies with a size of their own, as a share of the image's side."""
ENHANCEMENTS = (Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS)


def size_after(name: str, images: torch.Tensor) -> torch.Size:
    batch, channels, height, width = images.shape
    side = SIDES.get(name, 1)
    return torch.Size([batch, channels, round(side * height), round(side * width)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_generator_decides_everything(name: str, shape: tuple[int, int, int]) -> None:
    images = noise(33, *shape)
    before = images.clone()
    view = policy(name, shape)
    first = view(images, generator(1))
    assert torch.equal(images, before), "the input was changed"
    assert (first.shape, first.dtype) == (size_after(name, images), torch.uint8)
    torch.rand(1)  # the global generator plays no part
    assert torch.equal(first, policy(name, shape)(images, generator(1)))
    if name != "none":
        assert not torch.equal(first, view(images, generator(2)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8)], ids=str)
def test_an_image_is_treated_by_itself(name: str, shape: tuple[int, int, int]) -> None:
    images = noise(24, *shape)
    view = policy(name, shape)
    drawn = view.sample(generator(), 24)
    whole = view.apply(images, drawn)
    for i in range(24):
        own = tuple(type(step)(*(field[i : i + 1] for field in step)) for step in drawn)
        assert torch.equal(view.apply(images[i : i + 1], own), whole[i : i + 1])


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    images = noise(256, 3, 32, 32)
    view = policy(name, (3, 32, 32))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(view(images, generator()))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_a_block_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(31, 3, 16, 12)
    view = policy(name, (3, 16, 12))
    whole = view(images, generator())
    for images_at_once in (1, 7, 31):
        monkeypatch.setattr(policies, "BLOCK_PIXELS", images_at_once * 16 * 12)
        assert torch.equal(view(images, generator()), whole)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_sees_the_same_views(name: str) -> None:
    for shape in SHAPES:
        images = noise(256, *shape)
        view = policy(name, shape)
        on_gpu = view(images.cuda(), generator())
        assert on_gpu.is_cuda
        assert torch.equal(on_gpu.cpu(), view(images, generator()))


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_batch_gets_the_policy_s_shape(
    name: str, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    shape = (channels, height, width)
    images = noise(batch, *shape, seed % 1000)
    changed = policy(name, shape)(images, generator(seed))
    assert changed.shape == size_after(name, images)
    assert changed.dtype == torch.uint8


def test_the_memory_layout_changes_nothing() -> None:
    for name in NAMES:
        view = policy(name, (3, 16, 16))
        images = noise(6, 3, 16, 16)
        last = images.contiguous(memory_format=torch.channels_last)
        assert torch.equal(view(last, generator()), view(images, generator()))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("digits", ("affine_small", "affine_strong", "affine_small", "small_affine")),
        ("natural", ("crop_flip", "autoaugment", "global_crop", "small_crop")),
        ("characters", ("crop", "crop_cutout", "global_characters", "small_characters")),
        ("numbers", ("crop", "autoaugment_svhn", "global_numbers", "small_numbers")),
    ],
)
def test_auto_follows_the_data(kind: str, names: tuple[str, ...]) -> None:
    assert tuple(resolve("auto", kind, strength) for strength in get_args(Strength)) == names
    assert set(names) <= set(NAMES)
    assert resolve("randaugment", kind, "global") == "randaugment"


MIRRORED = {
    "flip",
    "crop_flip",
    "crop_flip_cutout",
    "autoaugment",
    "randaugment",
    "randaugment_fixmatch",
    "resized_crop_flip",
    "global_crop",
    "small_crop",
    "global_imagenet",
    "small_imagenet",
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_characters_and_numbers_are_never_mirrored(name: str) -> None:
    flips = [
        step.flip_B
        for step in policy(name, (3, 32, 32)).sample(generator(), 500)
        if hasattr(step, "flip_B")
    ]
    mirrors = name in MIRRORED
    assert any(flip.any() for flip in flips) == mirrors
    for flip in flips:
        assert abs(flip.double().mean().item() - 0.5 * mirrors) < 0.08


def test_the_views_of_paws_are_the_published_ones() -> None:
    """The table of METHODS: crops, jitter at half strength, solarize and equalize one time in five."""
    for name, scale, out in (("global_crop", (0.75, 1), 32), ("small_crop", (0.3, 0.75), 18)):
        steps = policy(name, (3, 32, 32)).steps
        assert steps == (
            ResizedCrop(32, 32, out, out, scale, flip=True),
            ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8),
            Sometimes(0.2, Op.SOLARIZE, 0, 256),
            Sometimes(0.2, Op.EQUALIZE),
        )
    for name, scale, out in (
        ("global_imagenet", (0.14, 1), 224),
        ("small_imagenet", (0.05, 0.14), 96),
    ):
        crop, jitter, grey, blur = policy(name, (3, 224, 224)).steps
        assert crop == ResizedCrop(224, 224, out, out, scale, flip=True)
        assert jitter == ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0.8)
        assert grey == Sometimes(0.2, Op.COLOR)
        assert blur == GaussianBlur(0.5, (0.1, 2))


def test_views_of_house_numbers_are_those_of_photos_without_a_mirror() -> None:
    for name in ("global", "small"):
        ours = policy(f"{name}_numbers", (3, 32, 32)).steps
        crop, *colours = policy(f"{name}_crop", (3, 32, 32)).steps
        assert isinstance(crop, ResizedCrop)
        assert ours == (replace(crop, flip=False), *colours)


def test_characters_change_in_place_size_and_light_only() -> None:
    for name, scale, out in (("global", (0.75, 1), 28), ("small", (0.3, 0.75), 16)):
        crop, light = policy(f"{name}_characters", (1, 28, 28)).steps
        assert crop == ResizedCrop(28, 28, out, out, scale, flip=False)
        assert light == ColourJitter(0.4, 0.4, 0, 0, probability=0.8)


def test_the_strong_view_of_house_numbers_hides_twenty_pixels_of_32() -> None:
    hole, change = policy("autoaugment_svhn", (3, 32, 32)).steps
    assert hole == Cutout(32, 32, 20, 20, 0)
    assert isinstance(change, AutoAugment)
    first = {(slots[0].op, slots[0].probability) for slots in SVHN_POLICY}
    drawn = zip(change.op_P2[:, 0].tolist(), change.probability_P2[:, 0].tolist(), strict=True)
    assert set(drawn) == first


def test_mistakes_are_explained() -> None:
    with pytest.raises(UserError, match="policy 'radar' is none of digits"):
        resolve("auto", "radar", "weak")
    with pytest.raises(UserError, match="'auto': no such policy"):
        policy("auto", (3, 32, 32))
    with pytest.raises(UserError, match="3 x 32 with 3 channels"):
        policy("crop", (3, 3, 32))
    with pytest.raises(UserError, match="with 4 channels"):
        policy("autoaugment", (4, 32, 32))


def oracle_op(name: str) -> Op:
    spaced = "".join(f"_{c}" if c.isupper() and name != "AutoContrast" else c for c in name)
    return Op[spaced.lstrip("_").upper()]


def oracle_magnitudes(values: torch.Tensor, signed: bool, op: Op) -> torch.Tensor:
    both = torch.stack([values, -values if signed else values], dim=-1).double()
    return both + (1 if op in ENHANCEMENTS else 0)


@pytest.mark.parametrize(
    ("dataset", "policies"), [("cifar10", CIFAR10_POLICY), ("svhn", SVHN_POLICY)]
)
def test_autoaugment_has_the_published_table(
    dataset: str, policies: tuple[tuple[Slot, Slot], ...]
) -> None:
    table = oracle.AutoAugment(oracle.AutoAugmentPolicy(dataset)).policies
    for ours, theirs in zip(policies, table, strict=True):
        for slot, (name, probability, index) in zip(ours, theirs, strict=True):
            assert (slot.op, slot.probability) == (oracle_op(name), probability)
            assert slot.level == (index or 0)


@pytest.mark.parametrize("source", ["autoaugment", "randaugment"])
def test_magnitudes_are_torchvision_s(source: str) -> None:
    bins = 10 if source == "autoaugment" else 31
    policies = oracle.AutoAugmentPolicy.CIFAR10
    theirs = oracle.AutoAugment(policies) if bins == 10 else oracle.RandAugment()
    space = theirs._augmentation_space(bins, (24, 32))
    if source == "randaugment":
        assert {oracle_op(name) for name in space} == set(OPS)
    for name, (values, signed) in space.items():
        op = oracle_op(name)
        expected = oracle_magnitudes(values.expand(bins), signed, op)
        actual = torch.tensor([magnitudes(op, i / (bins - 1), 24, 32) for i in range(bins)])
        # The paper's thresholds go from 256 down, torchvision's from 255.
        tolerance = 1.0 if op is Op.SOLARIZE else 1e-5
        assert (actual - expected).abs().max() <= tolerance, name


def test_autoaugment_draws_as_published() -> None:
    count = 200_000
    drawn = AutoAugment.cifar10(32, 32).sample(generator(), count)
    expected = torch.zeros(2, len(Op), dtype=torch.float64)
    for pair in CIFAR10_POLICY:
        for slot, (op, probability, _) in enumerate(pair):
            expected[slot, op] += probability / 25
            expected[slot, Op.IDENTITY] += (1 - probability) / 25
    for slot in (0, 1):
        shares = drawn.op_BS[:, slot].bincount(minlength=len(Op)) / count
        assert (shares - expected[slot]).abs().max() < 0.004
    rotation = drawn.magnitude_BS[drawn.op_BS == Op.ROTATE]
    assert (rotation.abs() - 30 * 2 / 9).abs().max() < 1e-9
    assert abs((rotation > 0).double().mean().item() - 0.5) < 0.02


def test_randaugment_draws_every_operation_equally_often() -> None:
    count = 100_000
    drawn = RandAugment.create(32, 32, count=2, index=10).sample(generator(), count)
    shares = drawn.op_BS.flatten().bincount(minlength=len(Op)) / (2 * count)
    assert shares[Op.INVERT] == 0
    assert (shares[: Op.INVERT] - 1 / 14).abs().max() < 0.003
    slots = drawn.op_BS[:, 0] * 14 + drawn.op_BS[:, 1]
    assert (slots.bincount() / count - 1 / 196).abs().max() < 0.002  # independent slots
    sharpness = drawn.magnitude_BS[drawn.op_BS == Op.SHARPNESS]
    assert sharpness.unique().tolist() == pytest.approx([0.7, 1.3])


def test_randaugment_takes_any_number_and_magnitude_of_operations() -> None:
    images = noise(32, 3, 32, 32)
    alone = policy("randaugment", (3, 32, 32))(images, generator(3))
    assert torch.equal(policy("randaugment_2_10", (3, 32, 32))(images, generator(3)), alone)
    _, three, _ = policy("randaugment_3_30", (3, 32, 32)).steps
    drawn = three.sample(generator(), 2000)
    assert drawn.op_BS.shape == (2000, 3)
    rotation = drawn.magnitude_BS[drawn.op_BS == Op.ROTATE]
    assert rotation.abs().unique().tolist() == pytest.approx([30])
    _, still, _ = policy("randaugment_1_0", (3, 32, 32)).steps
    turned = still.sample(generator(), 2000)
    assert not turned.magnitude_BS[turned.op_BS == Op.ROTATE].any()


def enhanced(v: int) -> list[float]:
    return [0.9 * v / 10 + 0.05]


def either_way(largest: float) -> Callable[[int], list[float]]:
    return lambda v: [largest * v / 10, -largest * v / 10]


FIXMATCH_RANGES: dict[Op, Callable[[int], list[float]]] = {
    **dict.fromkeys((Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS), enhanced),
    **dict.fromkeys((Op.SHEAR_X, Op.SHEAR_Y), either_way(0.3)),
    Op.ROTATE: either_way(30),
    Op.POSTERIZE: lambda v: [4 * v // 10 + 4],
    Op.SOLARIZE: lambda v: [256 - 256 * v // 10],
    Op.TRANSLATE_X: lambda v: [sign * (3 * v * 40 // 100) for sign in (1, -1)],
    Op.TRANSLATE_Y: lambda v: [sign * (3 * v * 32 // 100) for sign in (1, -1)],
}
"""At v of 1 to 9, for images of 40 x 32 pixels."""


def test_fixmatch_s_randaugment_has_its_magnitudes() -> None:
    """All of them, each as often, as its official code computes them."""
    drawn = RandAugment.fixmatch(32, 40).sample(generator(), 100_000)
    for op, of in FIXMATCH_RANGES.items():
        values = Counter(round(value, 6) for v in range(1, 10) for value in of(v))
        found = drawn.magnitude_BS[drawn.op_BS == op]
        counts = Counter(found.numpy().round(6).tolist())
        assert counts.keys() == values.keys(), op
        for value, count in counts.items():
            share = values[value] / values.total()
            assert abs(count / len(found) / share - 1) < 0.25, (op, value)


def test_fixmatch_s_randaugment_does_half_of_what_it_draws() -> None:
    count = 100_000
    drawn = RandAugment.fixmatch(32, 32).sample(generator(), count)
    shares = drawn.op_BS.flatten().bincount(minlength=len(Op)) / (2 * count)
    assert shares[Op.INVERT] == 0
    assert abs(shares[Op.IDENTITY] - (1 / 2 + 1 / 28)) < 0.003
    assert (shares[1 : Op.INVERT] - 1 / 28).abs().max() < 0.002
    both = (drawn.op_BS == Op.IDENTITY).all(dim=1).double().mean()
    assert abs(both - (1 / 2 + 1 / 28) ** 2) < 0.005  # independent slots


@pytest.mark.parametrize(
    "name", ["randaugment_0_5", "randaugment_2_31", "randaugment_2", "cropflip"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no such policy"):
        policy(name, (3, 32, 32))
