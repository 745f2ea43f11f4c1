"""CutMix and MixUp against the papers' formulas in NumPy, and against torchvision's parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp
from torchvision.transforms import v2

from pipeline_lib.augment.mixing import ONE, CutMix, Mixtures, MixUp, Patches, mix, span
from tests.views import generator, noise

SHAPES = [(1, 8, 8), (3, 32, 32), (3, 7, 13)]
BATCH = 40
SMALLEST = 1e-4
"""Less likely by chance than this is a wrong distribution."""


def box_by_hand(r_x: int, r_y: int, share: float, height: int, width: int) -> tuple[int, ...]:
    """Section 3.1: r_w = W sqrt(1 - lambda), r_h = H sqrt(1 - lambda), around (r_x, r_y)."""
    half_w, half_h = (int(side * math.sqrt(1 - share) / 2) for side in (width, height))
    x1, x2 = np.clip([r_x - half_w, r_x + half_w], 0, width)
    y1, y2 = np.clip([r_y - half_h, r_y + half_h], 0, height)
    return int(y1), int(y2), int(x1), int(x2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cutmix_is_the_paper_s_formula(shape: tuple[int, int, int]) -> None:
    """`M x_A + (1 - M) x_B`, `lambda y_A + (1 - lambda) y_B`, with a mask for each image."""
    images = noise(BATCH, *shape)
    height, width = shape[1:]
    rng = np.random.default_rng(3)
    labels = rng.dirichlet(np.ones(5), BATCH)
    share, r_y, r_x = rng.beta(1, 1, BATCH), *rng.integers(0, [[height], [width]], (2, BATCH))
    rows = span(height, torch.tensor(r_y), torch.tensor(share))
    columns = span(width, torch.tensor(r_x), torch.tensor(share))
    partner = rng.permutation(BATCH)
    x, kept, expected = images.numpy().astype(float), np.empty(BATCH), []
    for i, j in enumerate(partner):
        y1, y2, x1, x2 = box_by_hand(r_x[i], r_y[i], share[i], height, width)
        assert (y1, y2, x1, x2) == tuple(int(end[i]) for end in (*rows, *columns))
        mask = np.ones(shape)
        mask[:, y1:y2, x1:x2] = 0
        kept[i] = mask[0].mean()
        expected.append(mask * x[i] + (1 - mask) * x[j])
    patches = Patches(*rows, *columns, torch.tensor(partner), torch.tensor(kept))
    actual = CutMix(height, width).apply(images, patches)
    assert actual.dtype == torch.uint8
    np.testing.assert_array_equal(actual.numpy(), np.stack(expected))
    targets = torch.tensor(labels)
    mixed = mix(targets, targets[patches.partner_B], patches.share_B)
    by_hand = kept[:, None] * labels + (1 - kept[:, None]) * labels[partner]
    np.testing.assert_allclose(mixed, by_hand, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixup_is_the_paper_s_formula_rounded_half_up(shape: tuple[int, int, int]) -> None:
    images = noise(BATCH, *shape)
    drawn = MixUp(0.75).sample(generator(), BATCH)
    drawn.share_B[:3] = torch.tensor([0.5, 0, 1])
    actual = MixUp(0.75).apply(images, drawn)
    x, share = images.numpy().astype(float), drawn.share_B.numpy()[:, None, None, None]
    expected = np.floor(share * x + (1 - share) * x[drawn.partner_B.numpy()] + 0.5)
    assert actual.dtype == torch.uint8
    np.testing.assert_array_equal(actual.numpy(), expected)


def test_mixup_s_floats_hold_every_sum_exactly() -> None:
    """So that no device can round in another way, whatever the order of its operations."""
    levels = torch.arange(256.0)
    for numerator in (1, 12_345, ONE // 2 - 1, ONE // 2, ONE // 2 + 1, 54_321, ONE - 1):
        share = torch.tensor([numerator / ONE])
        for other in (0.0, 1.0, 100.0, 254.0, 255.0):
            others = torch.full_like(levels, other)
            exact = numerator * levels.long() + (ONE - numerator) * int(other)
            assert torch.equal((mix(levels[None], others[None], share) * ONE).long()[0], exact)


shapes = st.tuples(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 24), st.integers(1, 24)
)


@given(shape=shapes, alpha=st.floats(0.05, 20), seed=st.integers(0, 2**63 - 1))
def test_cutmix_shows_two_images_in_the_proportion_of_their_labels(
    shape: tuple[int, int, int, int], alpha: float, seed: int
) -> None:
    batch, _, height, width = shape
    # Every pixel of an image tells which image it is.
    images = torch.arange(batch, dtype=torch.uint8).view(-1, 1, 1, 1).expand(shape).contiguous()
    cutmix = CutMix(height, width, alpha)
    patches = cutmix.sample(generator(seed), batch)
    mixed = cutmix.apply(images, patches)
    assert (mixed.shape, mixed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(patches.partner_B.sort().values, torch.arange(batch))
    for i, (partner, share) in enumerate(
        zip(patches.partner_B.tolist(), patches.share_B.tolist(), strict=True)
    ):
        assert set(mixed[i].unique().tolist()) <= {i, partner}
        if partner != i:
            assert share == pytest.approx((mixed[i] == i).double().mean().item(), abs=1e-12)
    everywhere = noise(*shape, seed=seed % 1000)
    shown = cutmix.apply(everywhere, patches)
    from_either = (shown == everywhere) | (shown == everywhere[patches.partner_B])
    assert from_either.all()  # and in its own place
    assert torch.equal(shown, cutmix.apply(everywhere, patches))
    as_floats = cutmix.apply(everywhere.float(), patches)
    assert torch.equal(as_floats, shown.float())


@given(shape=shapes, alpha=st.floats(0.05, 20), seed=st.integers(0, 2**63 - 1))
def test_mixup_stays_between_its_two_images(
    shape: tuple[int, int, int, int], alpha: float, seed: int
) -> None:
    images = noise(*shape, seed=seed % 1000)
    before = images.clone()
    mixup = MixUp(alpha)
    mixtures = mixup.sample(generator(seed), shape[0])
    mixed = mixup.apply(images, mixtures)
    others = images[mixtures.partner_B]
    assert (mixed.shape, mixed.dtype) == (images.shape, torch.uint8)
    assert ((mixed >= images.minimum(others)) & (mixed <= images.maximum(others))).all()
    assert torch.equal(images, before), "the input was changed"
    assert torch.equal(mixtures.partner_B.sort().values, torch.arange(shape[0]))
    assert ((mixtures.share_B * ONE) % 1 == 0).all()


def test_an_image_alone_is_its_own_partner() -> None:
    image = noise(1, 3, 9, 6)
    for transform in (CutMix(9, 6), MixUp()):
        for seed in range(20):
            drawn = transform.sample(generator(seed), 1)
            assert torch.equal(transform.apply(image, drawn), image)


def test_all_of_the_partner_and_nothing_of_it() -> None:
    images = noise(2, 3, 8, 8)
    rows = span(8, torch.tensor([4, 4]), torch.tensor([0.0, 1.0], dtype=torch.float64))
    patches = Patches(*rows, *rows, torch.tensor([1, 0]), torch.tensor([0.0, 1.0]).double())
    assert torch.equal(CutMix(8, 8).apply(images, patches), images[[1, 1]])
    mixtures = Mixtures(torch.tensor([1, 0]), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.equal(MixUp().apply(images, mixtures), images[[1, 1]])


@pytest.mark.parametrize("transform", [CutMix(32, 32, 0.5), MixUp(0.5)], ids=["cutmix", "mixup"])
def test_the_generator_decides_everything(transform: CutMix | MixUp) -> None:
    first, again, other = (transform.sample(generator(seed), 50) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.share_B, other.share_B)
    assert not torch.equal(first.partner_B, other.partner_B)
    images = noise(50, 3, 32, 32)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(transform.apply(last, first), transform.apply(images, first))


@pytest.mark.gpu
@pytest.mark.parametrize("transform", [CutMix(32, 32), MixUp()], ids=["cutmix", "mixup"])
def test_a_gpu_mixes_to_the_same_bytes(transform: CutMix | MixUp) -> None:
    images = noise(256, 3, 32, 32)
    drawn = transform.sample(generator(), 256)
    on_gpu = transform.apply(images.cuda(), drawn)
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), transform.apply(images, drawn))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    count = 20_000
    # Rounded alike: with a small alpha many shares are nearer to 0 than to 1 / ONE.
    theirs = np.round(np.random.default_rng(9).beta(alpha, alpha, count) * ONE) / ONE
    ours, wrong = (
        MixUp(a).sample(generator(), count).share_B.numpy() for a in (alpha, 1.5 * alpha)
    )
    assert ks_2samp(ours, theirs).pvalue > SMALLEST
    assert ks_2samp(wrong, theirs).pvalue < SMALLEST


def boxes_of_torchvision(alpha: float, height: int, width: int, count: int) -> np.ndarray:
    """Rows of top, bottom, left, right and the label's share."""
    oracle, image = v2.CutMix(alpha=alpha, num_classes=2), torch.zeros(1, 3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = [oracle.make_params([image]) for _ in range(count)]
    rows = [(y1, y2, x1, x2, d["lam_adjusted"]) for d in drawn for x1, y1, x2, y2 in [d["box"]]]
    return np.array(rows)


@pytest.mark.parametrize(("alpha", "height", "width"), [(1.0, 32, 32), (0.3, 24, 40)])
def test_boxes_are_distributed_as_torchvision_s(alpha: float, height: int, width: int) -> None:
    count = 6_000
    theirs = boxes_of_torchvision(alpha, height, width, count).T
    patches = CutMix(height, width, alpha).sample(generator(5), count)
    ours = np.stack(
        [patches.top_B, patches.bottom_B, patches.left_B, patches.right_B, patches.share_B]
    )

    def likely(one: np.ndarray, other: np.ndarray) -> bool:
        return ks_2samp(one, other).pvalue > SMALLEST

    for mine, other in zip(ours, theirs, strict=True):
        assert likely(mine, other)
    # Centres and sides of the clipped boxes; and both together, in a coarse grid of places and areas.
    for row in (0, 2):
        assert likely(ours[row] + ours[row + 1], theirs[row] + theirs[row + 1])
        assert likely(ours[row + 1] - ours[row], theirs[row + 1] - theirs[row])
    cells = [
        np.histogramdd(
            np.stack([(b[0] + b[1]) / height, (b[2] + b[3]) / width, b[4]], axis=1),
            bins=(3, 3, 3),
            range=((0, 2), (0, 2), (0, 1)),
        )[0].ravel()
        for b in (ours, theirs)
    ]
    enough = np.minimum(*cells) > 5
    assert chi2_contingency(np.stack(cells)[:, enough]).pvalue > SMALLEST
    # Boxes of another distribution of areas would be noticed; some are cut at the border.
    wrong = CutMix(height, width, 2 * alpha).sample(generator(5), count)
    assert not likely(wrong.share_B.numpy(), theirs[4])
    assert (ours[0] == 0).any()
    assert (ours[1] == height).any()


def test_a_patch_is_independent_of_its_partner() -> None:
    patches = CutMix(32, 32).sample(generator(), 5_000)
    rows = [
        field.double()
        for field in (
            patches.partner_B,
            patches.share_B,
            patches.top_B + patches.bottom_B,
            patches.left_B + patches.right_B,
        )
    ]
    correlation = torch.corrcoef(torch.stack([torch.arange(5_000.0).double(), *rows]))
    assert (correlation - torch.eye(5)).abs().max() < 0.06  # 4.2 standard deviations
