"""The functions of losses/common.py and partial.py against the published formula, written out in NumPy float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.losses import common, partial

# --- the formulas, term by term -----------------------------------------------------------------


def log_softmax(z_BK):
    shifted = z_BK - z_BK.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def golden_cross_entropy(z_BK, t_BK):
    """-mean_i sum_j t_ij log p_ij."""
    return -(t_BK * log_softmax(z_BK)).sum(axis=1).mean()


def golden_complementary(z_BK, y_BK):
    """CR-DPLL, L_sup: -mean_i sum_j (1 - Y_ij) log(1.0000001 - p_ij)."""
    total = 0.0
    for p_K, y_K in zip(np.exp(log_softmax(z_BK)), y_BK, strict=True):
        total -= sum(math.log(1.0000001 - p) for p, y in zip(p_K, y_K, strict=True) if not y)
    return total / len(z_BK)


def golden_consistency(s_BK, views):
    """CR-DPLL, L_con: sum_k KL(S || p^(k)), each a mean over the images; 0 log 0 = 0."""
    total = 0.0
    for z_BK in views:
        log_p_BK = log_softmax(z_BK)
        for s_K, log_p_K in zip(s_BK, log_p_BK, strict=True):
            kl = sum(s * (math.log(s) - lp) for s, lp in zip(s_K, log_p_K, strict=True) if s > 0)
            total += kl / len(s_BK)
    return total


def golden_conformal(views, y_BK):
    """S_ij = Y_ij (prod_k p_ij^k)^(1/V) / sum_l Y_il (prod_k p_il^k)^(1/V), scaled by its largest."""
    exponent_BK = np.where(y_BK > 0, sum(map(log_softmax, views)) / len(views), -np.inf)
    weight_BK = np.exp(exponent_BK - exponent_BK.max(axis=1, keepdims=True))
    return weight_BK / weight_BK.sum(axis=1, keepdims=True)


def golden_candidate_nll(z_BK, y_BK):
    """-mean_i log sum_{j in Y_i} p_ij, by the largest candidate."""
    inside_BK = np.where(y_BK > 0, log_softmax(z_BK), -np.inf)
    top_B = inside_BK.max(axis=1)
    return -(top_B + np.log(np.exp(inside_BK - top_B[:, None]).sum(axis=1))).mean()


# --- inputs ---------------------------------------------------------------------------------------


class Case:
    """Logits of three views, candidate sets (never empty) and stored targets inside them."""

    def __init__(self, images: int, classes: int, scale: float, seed: int) -> None:
        self.scale = scale
        draw = np.random.default_rng(seed)
        self.views = [draw.normal(size=(images, classes)) * scale for _ in range(3)]
        self.y = (draw.random((images, classes)) < draw.random()).astype(float)
        self.y[np.arange(images), draw.integers(classes, size=images)] = 1
        targets = self.y * draw.random((images, classes))
        self.s = targets / targets.sum(axis=1, keepdims=True)


cases = st.builds(
    Case,
    images=st.integers(1, 6),
    classes=st.integers(2, 12),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    seed=st.integers(0, 2**32),
)
extreme_cases = st.builds(
    Case, st.integers(1, 6), st.integers(2, 12), st.just(1e4), st.integers(0, 2**32)
)


def tensor(array, dtype=torch.float64):
    return torch.tensor(np.asarray(array), dtype=dtype)


def tensors(arrays, dtype=torch.float64):
    return [tensor(array, dtype) for array in arrays]


# name -> (function of torch tensors, the same of arrays); each takes (views, candidates, targets)
SCALARS = {
    "cross entropy": (
        lambda v, y, s: common.soft_cross_entropy(v[0], s),
        lambda v, y, s: golden_cross_entropy(v[0], s),
    ),
    "candidate nll": (
        lambda v, y, s: partial.candidate_nll(v[0], y),
        lambda v, y, s: golden_candidate_nll(v[0], y),
    ),
    "complementary": (
        lambda v, y, s: partial.complementary_loss(v[0], y),
        lambda v, y, s: golden_complementary(v[0], y),
    ),
    "consistency": (
        lambda v, y, s: partial.consistency_loss(s, v),
        lambda v, y, s: golden_consistency(s, v),
    ),
    "cr_dpll": (
        lambda v, y, s: partial.complementary_loss(v[0], y) + 0.7 * partial.consistency_loss(s, v),
        lambda v, y, s: golden_complementary(v[0], y) + 0.7 * golden_consistency(s, v),
    ),
    "average": (
        lambda v, y, s: common.soft_cross_entropy(v[0], common.uniform_targets(y)),
        # the mean over the candidates of their cross-entropies
        lambda v, y, s: np.mean(
            [-lp[c > 0].mean() for lp, c in zip(log_softmax(v[0]), y, strict=True)]
        ),
    ),
    "proden": (
        lambda v, y, s: common.soft_cross_entropy(v[0], partial.candidate_posterior(v[1], y)),
        lambda v, y, s: golden_cross_entropy(v[0], golden_conformal([v[1]], y)),
    ),
}
each_scalar = pytest.mark.parametrize(("ours", "golden"), SCALARS.values(), ids=SCALARS)


# --- the values -----------------------------------------------------------------------------------


@each_scalar
@settings(max_examples=25)
@given(case=cases)
def test_the_loss_is_the_formula_in_float64(ours, golden, case) -> None:
    value = ours(tensors(case.views), tensor(case.y), tensor(case.s))
    # uniform_targets answers in float32, hence not 1e-12
    assert float(value) == pytest.approx(golden(case.views, case.y, case.s), rel=1e-6, abs=1e-9)


@each_scalar
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=25)
@given(case=cases)
def test_narrow_logits_are_computed_on_in_float32(ours, golden, dtype, case) -> None:
    views = tensors(case.views, dtype)
    value = ours(views, tensor(case.y, torch.float32), tensor(case.s, torch.float32))
    # what the loss was given, to the last digit of the narrow type
    given_views = [view.double().numpy() for view in views]
    assert value.dtype == torch.float32
    # Where p is within 1e-6 of 1, float32 leaves few digits of 1 - p for the complementary term.
    rel = 5e-2 if case.scale > 1 and "complementary_loss" in ours.__code__.co_names else 1e-4
    assert float(value) == pytest.approx(golden(given_views, case.y, case.s), rel=rel, abs=2e-5)


@each_scalar
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25)
@given(case=extreme_cases)
def test_extreme_logits_give_finite_losses_and_gradients(ours, golden, dtype, case) -> None:
    views = [view.requires_grad_() for view in tensors(case.views, dtype)]
    value = ours(views, tensor(case.y, torch.float32), tensor(case.s, torch.float32))
    value.backward()
    value = value.detach()
    given_views = [view.detach().double().numpy() for view in views]
    assert float(value) == pytest.approx(golden(given_views, case.y, case.s), rel=1e-4, abs=1e-3)
    assert all(view.grad is None or view.grad.isfinite().all() for view in views)


def golden_gradient(golden, case, view, step=1e-5):
    """Central differences of the formula with respect to the logits of one view."""
    gradient_BK = np.zeros_like(case.views[view])
    for place in np.ndindex(gradient_BK.shape):
        ends = []
        for sign in (1, -1):
            moved = [array.copy() for array in case.views]
            moved[view][place] += sign * step
            ends.append(golden(moved, case.y, case.s))
        gradient_BK[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient_BK


@pytest.mark.parametrize("name", ["cr_dpll", "average", "candidate nll", "complementary"])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_the_slope_of_the_formula(name, seed) -> None:
    ours, golden = SCALARS[name]
    case = Case(images=3, classes=5, scale=2.0, seed=seed)
    views = [view.requires_grad_() for view in tensors(case.views)]
    ours(views, tensor(case.y), tensor(case.s)).backward()
    expected = [golden_gradient(golden, case, number) for number in range(3)]
    for view, slope_BK in zip(views, expected, strict=True):
        gradient = np.zeros_like(slope_BK) if view.grad is None else view.grad.numpy()
        np.testing.assert_allclose(gradient, slope_BK, rtol=1e-5, atol=1e-7)


def test_all_three_views_carry_gradient_and_only_the_weak_one_the_complementary_term() -> None:
    case = Case(images=3, classes=5, scale=1.0, seed=0)
    views = [view.requires_grad_() for view in tensors(case.views)]
    partial.consistency_loss(tensor(case.s), views).backward()
    assert all(view.grad.abs().sum() > 0 for view in views)
    views = [view.requires_grad_() for view in tensors(case.views)]
    partial.complementary_loss(views[0], tensor(case.y)).backward()
    assert [view.grad is not None for view in views] == [True, False, False]


def test_prodens_weights_are_constants_of_the_loss() -> None:
    case = Case(images=3, classes=5, scale=2.0, seed=1)
    logits = tensor(case.views[0]).requires_grad_()
    weights = partial.candidate_posterior(logits, tensor(case.y))
    common.soft_cross_entropy(logits, weights).backward()
    fixed = golden_conformal([case.views[0]], case.y)
    step = golden_gradient(lambda v, y, s: golden_cross_entropy(v[0], fixed), case, 0)
    np.testing.assert_allclose(logits.grad.numpy(), step, rtol=1e-5, atol=1e-8)


def test_targets_get_no_gradient() -> None:
    case = Case(images=3, classes=5, scale=1.0, seed=2)
    logits, targets = tensor(case.views[0]).requires_grad_(), tensor(case.s).requires_grad_()
    partial.consistency_loss(targets, [logits]).backward()
    assert targets.grad is None
    assert not partial.conformal_targets([logits], tensor(case.y)).requires_grad


# --- the targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 3])
@settings(max_examples=25)
@given(case=cases)
def test_conformal_targets_are_the_normalised_geometric_mean(views, case) -> None:
    ours = partial.conformal_targets(tensors(case.views[:views]), tensor(case.y))
    np.testing.assert_allclose(ours, golden_conformal(case.views[:views], case.y), atol=1e-12)
    product = np.prod([np.exp(log_softmax(view)) for view in case.views[:views]], axis=0)
    naive = case.y * product ** (1 / views)
    np.testing.assert_allclose(ours, naive / naive.sum(axis=1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25)
@given(case=st.one_of(cases, extreme_cases))
def test_row_36_conformal_targets_stay_a_distribution_on_the_candidates(dtype, case) -> None:
    ours = partial.conformal_targets(tensors(case.views, dtype), tensor(case.y, torch.float32))
    assert ours.dtype == torch.float32
    assert (ours[tensor(case.y) == 0] == 0).all()
    np.testing.assert_allclose(ours.sum(dim=1), 1, atol=1e-6)


@settings(max_examples=25)
@given(case=st.one_of(cases, extreme_cases))
def test_the_posterior_is_the_prediction_within_the_candidates(case) -> None:
    ours = partial.candidate_posterior(tensor(case.views[0]), tensor(case.y))
    np.testing.assert_allclose(ours, golden_conformal(case.views[:1], case.y), atol=1e-12)


@settings(max_examples=25)
@given(case=cases)
def test_uniform_targets_share_evenly(case) -> None:
    for mask in (tensor(case.y), tensor(case.y, torch.bool)):
        ours = common.uniform_targets(mask)
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, case.y / case.y.sum(axis=1, keepdims=True), rtol=1e-6)


# --- the cases that are known by hand ---------------------------------------------------------------


def test_one_candidate_is_a_label_and_all_candidates_say_nothing() -> None:
    logits = tensor([[2.0, -1.0, 0.5]])
    label, everything = tensor([[0, 1, 0]]), torch.ones(1, 3, dtype=torch.float64)
    expected = math.log(math.exp(2) + math.exp(-1) + math.exp(0.5)) + 1
    assert float(partial.candidate_nll(logits, label)) == pytest.approx(expected)
    assert float(partial.candidate_nll(logits, everything)) == 0
    assert float(partial.complementary_loss(logits, everything)) == 0


def test_complementary_loss_of_even_odds() -> None:
    # p = (1/2, 1/2), class 1 is no candidate: -log(1.0000001 - 0.5)
    value = partial.complementary_loss(torch.zeros(1, 2, dtype=torch.float64), tensor([[1, 0]]))
    assert float(value) == pytest.approx(-math.log(0.5000001), abs=1e-12)


def test_complementary_loss_is_bounded_by_its_epsilon() -> None:
    value = partial.complementary_loss(torch.tensor([[0.0, 100.0]]), torch.tensor([[1.0, 0.0]]))
    assert float(value) == pytest.approx(-math.log(1e-7), rel=1e-4)


def test_consistency_is_the_sum_over_views_and_zero_at_agreement() -> None:
    one = tensor([[1.0, 0.0, -1.0], [0.0, 3.0, 1.0]])
    other = tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]])
    targets = torch.softmax(one, dim=1)
    assert float(partial.consistency_loss(targets, [one, one, one])) == pytest.approx(0, abs=1e-12)
    single = float(partial.consistency_loss(targets, [other]))
    assert single > 0.1
    assert float(partial.consistency_loss(targets, [other] * 3)) == pytest.approx(3 * single)


@pytest.mark.parametrize(
    ("position", "length", "weight"),
    [(0, 100, 0), (1, 100, 0.01), (50, 100, 0.5), (100, 100, 1), (199, 100, 1), (0, 0, 1)],
)
def test_the_ramp_follows_the_official_code(position, length, weight) -> None:
    assert common.linear_ramp(position, length) == pytest.approx(weight)
