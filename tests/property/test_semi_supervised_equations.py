"""What holds of the equations of the semi-supervised methods, whatever the logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.augment.mixing import mix
from pipeline_lib.losses.common import sharpen, soft_cross_entropy
from pipeline_lib.losses.semi import (
    aligned,
    brier_loss,
    class_thresholds,
    fairness_loss,
    gaussian_weights,
    mean_log_prediction,
    pseudo_label_loss,
)
from pipeline_lib.methods.mixmatch import interleaved, partners

CPU = torch.device("cpu")
CLASSES = 5
seeds = st.integers(0, 2**32)
sizes = st.integers(1, 9)
scales = st.sampled_from([0.1, 3.0, 60.0])
quick = settings(max_examples=40)


def logits(seed: int, rows: int, scale: float) -> torch.Tensor:
    return scale * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed))


def probabilities(seed: int, rows: int, scale: float = 3.0) -> torch.Tensor:
    return torch.softmax(logits(seed, rows, scale), dim=1)


@quick
@given(seeds, sizes, scales, st.floats(0.05, 1))
def test_sharpening_keeps_the_simplex_and_the_likeliest_class(seed, rows, scale, t) -> None:
    log_p = torch.log_softmax(logits(seed, rows, scale), dim=1)
    q = sharpen(log_p, t)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(rows))
    assert torch.equal(q.argmax(dim=1), log_p.argmax(dim=1))
    assert (q.amax(dim=1) >= log_p.exp().amax(dim=1) - 1e-6).all()
    torch.testing.assert_close(sharpen(log_p, 1.0), log_p.exp())


@quick
@given(seeds, st.integers(1, 4), sizes, scales)
def test_a_guess_is_a_distribution_that_ignores_the_order_of_the_views(
    seed, views, rows, scale
) -> None:
    of_views = [logits(seed + v, rows, scale) for v in range(views)]
    log_p = mean_log_prediction(of_views)
    torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(rows))
    torch.testing.assert_close(log_p, mean_log_prediction(of_views[::-1]))
    assert torch.isfinite(log_p).all()


@quick
@given(seeds, sizes)
def test_mixing_with_oneself_changes_nothing_and_mixed_targets_stay_distributions(
    seed, rows
) -> None:
    p, other = probabilities(seed, rows), probabilities(seed + 1, rows)
    shares = 0.5 + torch.rand(rows, generator=torch.Generator().manual_seed(seed)) / 2
    assert torch.equal(mix(p, p, shares), p)
    torch.testing.assert_close(mix(p, other, shares).sum(dim=1), torch.ones(rows))


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 24))
def test_partners_are_a_permutation_within_what_may_be_mixed(seed, labeled, unlabeled) -> None:
    everything = torch.arange(labeled + unlabeled)
    for mixup in ("all", "labeled", "unlabeled", "separate", "none"):
        drawn = partners(mixup, labeled, unlabeled, torch.Generator().manual_seed(seed))
        assert torch.equal(drawn.sort().values, everything)
        if mixup != "all":
            assert (drawn[:labeled] < labeled).all()
        if mixup in ("labeled", "none"):
            assert torch.equal(drawn[labeled:], everything[labeled:])
        if mixup in ("unlabeled", "none"):
            assert torch.equal(drawn[:labeled], everything[:labeled])


def test_all_mixes_the_two_sets_and_separate_shuffles_within_each() -> None:
    drawn = partners("all", 20, 40, torch.Generator().manual_seed(1))
    assert (drawn[:20] >= 20).any()
    assert (drawn[20:] < 20).any()
    drawn = partners("separate", 20, 40, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn[:20], torch.arange(20))
    assert not torch.equal(drawn[20:], torch.arange(20, 60))


@quick
@given(st.integers(1, 9), st.integers(1, 20))
def test_interleaving_undoes_itself_and_spreads_the_labeled_images(groups, size) -> None:
    order = interleaved(groups, size, CPU)
    flat = order.flatten()
    assert order.shape == (groups, size)
    assert torch.equal(flat[flat], torch.arange(groups * size))
    per_group = (order < size).sum(dim=1)
    assert int(per_group.sum()) == size
    assert int(per_group.max() - per_group.min()) <= 1


@quick
@given(seeds, sizes, scales)
def test_the_unlabeled_terms_are_bounded_and_least_at_their_targets(seed, rows, scale) -> None:
    z = logits(seed, rows, scale)
    q = probabilities(seed + 1, rows)
    assert 0 <= float(brier_loss(z, q)) <= 2 / CLASSES
    assert float(brier_loss(q.log(), q)) == pytest.approx(0, abs=1e-10)
    hard = torch.nn.functional.one_hot(q.argmax(dim=1), CLASSES).float()
    full = pseudo_label_loss(z, q, torch.ones(rows))
    torch.testing.assert_close(full, soft_cross_entropy(z, hard))


@quick
@given(seeds, sizes, scales)
def test_an_empty_mask_gives_zero_and_no_gradient(seed, rows, scale) -> None:
    z = logits(seed, rows, scale).requires_grad_()
    q, average = probabilities(seed, rows), probabilities(seed + 1, 1)[0]
    nothing = torch.zeros(rows)
    loss = pseudo_label_loss(z, q, nothing) + fairness_loss(average, average, z, nothing)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


@quick
@given(seeds, sizes, scales)
def test_the_fairness_term_is_finite_with_its_gradient(seed, rows, scale) -> None:
    z = logits(seed, rows, scale).requires_grad_()
    average = probabilities(seed + 1, 1)[0]
    histogram = torch.tensor([0.5, 0.5, 0, 0, 0])  # classes that never were the likeliest
    mask = (torch.arange(rows) % 2 == 0).float()
    loss = fairness_loss(average, histogram, z, mask)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


@quick
@given(seeds, st.floats(0, 1))
def test_no_class_has_a_higher_threshold_than_the_overall_one(seed, confidence) -> None:
    average = probabilities(seed, 1)[0]
    thresholds = class_thresholds(torch.tensor(confidence), average)
    assert float(thresholds.max()) == pytest.approx(confidence, rel=1e-6)
    assert (thresholds >= 0).all()


@quick
@given(seeds, sizes, scales)
def test_alignment_keeps_the_simplex_and_does_nothing_to_even_classes(seed, rows, scale) -> None:
    p = probabilities(seed, rows, scale)
    even = torch.full((CLASSES,), 1 / CLASSES)
    torch.testing.assert_close(aligned(p, even), p)
    average = probabilities(seed + 1, 1)[0]
    torch.testing.assert_close(aligned(p, average).sum(dim=1), torch.ones(rows))


@quick
@given(st.lists(st.floats(0.2, 1), min_size=2, max_size=9), st.floats(0.2, 1), st.floats(0, 1))
def test_gaussian_weights_rise_with_confidence_up_to_one(confidences, mean, variance) -> None:
    c = torch.tensor(sorted(confidences))
    w = gaussian_weights(c, torch.tensor(mean), torch.tensor(variance), 2.0)
    assert (w.diff() >= 0).all()
    assert ((w >= 0) & (w <= 1)).all()
    assert (w[c >= mean] == 1).all()
