"""Random resized crops against PIL, one image at a time, and their boxes against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from pipeline_lib.augment import resized_crop
from pipeline_lib.augment.geometry import Flip
from pipeline_lib.augment.resized_crop import Boxes, ResizedCrop
from tests.views import generator, noise

# (channels, height, width), (out_height, out_width): same size, smaller, larger, not square
SIZES = [
    ((3, 32, 32), (32, 32)),
    ((3, 32, 32), (18, 18)),
    ((1, 28, 28), (16, 16)),
    ((1, 8, 8), (6, 6)),
    ((3, 9, 14), (20, 5)),
    ((1, 64, 40), (4, 50)),
]


def whole(batch: int, height: int, width: int) -> Boxes:
    start = torch.zeros(batch, dtype=torch.int64)
    return Boxes(start, start, start + height, start + width, start.bool())


def by_pil(image_CHW: torch.Tensor, box: tuple[int, ...], out: tuple[int, int]) -> np.ndarray:
    """The box cut out, resized channel by channel, across and then down, and mirrored."""
    top, left, height, width, flip = box
    channels = []
    for part in image_CHW[:, top : top + height, left : left + width].numpy():
        across = Image.fromarray(part).resize((out[1], height), Image.Resampling.BILINEAR)
        channels.append(np.array(across.resize(out[::-1], Image.Resampling.BILINEAR)))
    return np.stack(channels)[..., ::-1] if flip else np.stack(channels)


@pytest.mark.parametrize(("shape", "out"), SIZES, ids=str)
def test_crops_equal_pil_s(shape: tuple[int, int, int], out: tuple[int, int]) -> None:
    count = 133
    images = noise(count, *shape)
    crop = ResizedCrop(*shape[1:], *out, scale=(0.05, 1), flip=True)
    boxes = crop.sample(generator(), count)
    actual = crop.apply(images, boxes).numpy().astype(int)
    rows = zip(*map(torch.Tensor.tolist, boxes), strict=True)
    expected = np.stack([by_pil(*pair, out) for pair in zip(images, rows, strict=True)])
    assert actual.shape == expected.shape
    # PIL divides floating-point weights, we whole ones: a weight may differ by 2**-22, which
    # matters only where a sum lies next to the border of two grey levels.
    assert np.abs(actual - expected).max() <= 1
    assert (actual != expected).mean() < 1e-4


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (3, 9, 14)], ids=str)
def test_the_whole_image_at_its_own_size_is_the_image(shape: tuple[int, int, int]) -> None:
    images = noise(5, *shape)
    height, width = shape[1:]
    crop = ResizedCrop(height, width, height, width, scale=(1, 1), flip=False)
    assert torch.equal(crop.apply(images, whole(5, height, width)), images)
    mirrored = whole(5, height, width)._replace(flip_B=torch.ones(5, dtype=torch.bool))
    assert torch.equal(crop.apply(images, mirrored), images.flip(3))


def test_a_box_of_the_output_s_size_is_cut_out_unchanged() -> None:
    images = noise(4, 3, 20, 30)
    crop = ResizedCrop(20, 30, 7, 9, scale=(0.5, 1), flip=False)
    boxes = whole(4, 7, 9)._replace(top_B=torch.arange(4), left_B=torch.arange(4) * 7)
    actual = crop.apply(images, boxes)
    for i in range(4):
        assert torch.equal(actual[i], images[i, :, i : i + 7, 7 * i : 7 * i + 9])


def test_halving_takes_the_tent_s_mean() -> None:
    images = noise(6, 1, 8, 8)
    actual = ResizedCrop(8, 8, 8, 4, scale=(1, 1), flip=False).apply(images, whole(6, 8, 8))
    levels = images.double()
    inner = levels[..., 1:5] + 3 * levels[..., 2:6] + 3 * levels[..., 3:7] + levels[..., 4:8]
    # Output column 1 is centred between the source columns 2 and 3.
    assert torch.equal(actual[..., 1], (inner[..., 0] / 8 + 0.5).floor().to(torch.uint8))
    edge = (3 * levels[..., 0] + 3 * levels[..., 1] + levels[..., 2]) / 7
    assert (actual[..., 0] - edge).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("field", Boxes._fields)
def test_every_parameter_is_used(field: str) -> None:
    images = noise(1, 3, 32, 32)
    crop = ResizedCrop(32, 32, 18, 18, scale=(0.3, 0.75), flip=True)
    boxes = Boxes(*map(torch.tensor, ([5], [6], [20], [21], [False])))
    other = boxes._replace(
        **{field: ~boxes.flip_B if field == "flip_B" else getattr(boxes, field) + 1}
    )
    assert not torch.equal(crop.apply(images, boxes), crop.apply(images, other))


@pytest.mark.parametrize("scale", [(0.75, 1.0), (0.3, 0.75), (0.08, 1.0)], ids=str)
def test_boxes_are_distributed_as_torchvision_s(scale: tuple[float, float]) -> None:
    count, image = 6_000, torch.zeros(1, 32, 40)
    boxes = ResizedCrop(32, 40, 32, 32, scale, flip=True).sample(generator(), count)
    ours = torch.stack([field.double() for field in boxes[:4]]).numpy()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        draws = [
            RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(count)
        ]
    theirs = np.array(draws, dtype=float).T
    for name, mine, other in zip(Boxes._fields, ours, theirs, strict=False):
        # Two samples of 6,000: 0.04 is the distance that chance exceeds once in 5,000 times.
        grid = np.arange(42)
        distance = np.abs(
            np.searchsorted(np.sort(mine), grid) - np.searchsorted(np.sort(other), grid)
        )
        assert distance.max() / count < 0.04, name
    assert np.abs(np.corrcoef(ours) - np.corrcoef(theirs)).max() < 0.06
    assert abs(boxes.flip_B.double().mean().item() - 0.5) < 0.03


def test_boxes_reach_the_ends_of_their_ranges() -> None:
    boxes = ResizedCrop(320, 320, 9, 9, scale=(0.2, 0.5), flip=False).sample(generator(), 20_000)
    area = boxes.height_B * boxes.width_B / 320**2
    ratio = (boxes.width_B / boxes.height_B).log()
    # Rounding a side of 124 pixels or more to whole ones moves the area by 0.6 % or less.
    assert 0.198 < area.min() < 0.202
    assert 0.498 < area.max() < 0.502
    assert abs(area.double().mean().item() - 0.35) < 0.003
    assert abs(ratio.double().mean().item()) < 0.005
    assert abs(ratio.abs().max().item() - np.log(4 / 3)) < 0.01
    assert not boxes.flip_B.any()


@pytest.mark.parametrize(("height", "width"), [(40, 4), (4, 40)])
def test_a_box_that_never_fits_is_cut_to_the_image(height: int, width: int) -> None:
    boxes = ResizedCrop(height, width, 4, 4, scale=(0.9, 1), flip=False).sample(generator(), 50)
    fixed, free = (boxes.width_B, boxes.height_B) if width == 4 else (boxes.height_B, boxes.width_B)
    assert (fixed == 4).all()
    assert free.min() >= 4
    assert free.max() <= 40


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    out_height=st.integers(1, 40),
    out_width=st.integers(1, 40),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    batch=st.integers(1, 4),
    level=st.integers(0, 255),
)
def test_any_crop_lies_in_the_image_and_keeps_a_flat_one(
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    low: float,
    high: float,
    batch: int,
    level: int,
) -> None:
    scale = (min(low, high), max(low, high))
    crop = ResizedCrop(height, width, out_height, out_width, scale, flip=True)
    boxes = crop.sample(generator(), batch)
    for start_B, size_B, side in (
        (boxes.top_B, boxes.height_B, height),
        (boxes.left_B, boxes.width_B, width),
    ):
        assert start_B.min() >= 0
        assert size_B.min() >= 1
        assert (start_B + size_B).max() <= side
    flat = torch.full((batch, 3, height, width), level, dtype=torch.uint8)
    expected = torch.full((batch, 3, out_height, out_width), level, dtype=torch.uint8)
    assert torch.equal(crop.apply(flat, boxes), expected)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_table_of_weights_changes_nothing(monkeypatch, shape) -> None:
    (channels, height, width), out = shape
    images = noise(12, channels, height, width)
    crop = ResizedCrop(height, width, *out, scale=(0.2, 1), flip=True)
    boxes = crop.sample(generator(), 12)
    from_table = crop.apply(images, boxes)
    monkeypatch.setattr(resized_crop, "LARGEST_TABLE", 0)
    assert torch.equal(crop.apply(images, boxes), from_table)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = noise(1000, 1, 5, 7)
    flips = Flip().sample(generator(), 1000)
    actual = Flip().apply(images, flips)
    assert torch.equal(actual[flips.flip_B], images[flips.flip_B].flip(3))
    assert torch.equal(actual[~flips.flip_B], images[~flips.flip_B])
    assert abs(flips.flip_B.double().mean().item() - 0.5) < 0.06
