"""The range test against NumPy: the course of the rates, the smoothing, the end, and the choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline_lib.records import StepOutput
from pipeline_lib.training import finders
from pipeline_lib.training.finders import choose_rate, range_test
from pipeline_lib.training.pool import Pool
from tests.toy_methods import PARAMS, make_images, make_method
from tests.views import PLAIN


def scripted_test(monkeypatch: pytest.MonkeyPatch, losses) -> list[dict[str, float]]:
    """The curve of a test whose steps have these losses, one after the other."""
    rates, left = [], iter(losses)

    def step(method, batch, drawn, optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"])
        return StepOutput(torch.tensor(next(left), dtype=torch.float64))

    monkeypatch.setattr(finders, "take_step", step)
    method = make_method("two_phase")
    candidates_NK = method.problem.candidates_NK
    pool = Pool(make_images(), candidates_NK, lambda _: PLAIN, 1, torch.device("cpu"))
    curve = range_test(method, 16, pool, PARAMS.train)
    assert rates[: len(curve)] == [row["learning_rate"] for row in curve]
    return curve


def smoothed(losses):
    """Weighted means of all losses so far, weights 0.9^age."""
    weights = [0.9 ** np.arange(t, -1, -1) for t in range(len(losses))]
    return np.array([w @ losses[: len(w)] / w.sum() for w in weights])


def test_rates_rise_exponentially_and_losses_are_smoothed(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.random.default_rng(1).uniform(1, 2, 100)
    curve = scripted_test(monkeypatch, losses)
    expected = 1e-6 * 10 ** (7 * np.arange(100) / 99)
    np.testing.assert_allclose([row["learning_rate"] for row in curve], expected)
    np.testing.assert_allclose([row["loss"] for row in curve], losses)
    np.testing.assert_allclose([row["smoothed_loss"] for row in curve], smoothed(losses))


def test_it_ends_when_the_smoothed_loss_exceeds_four_times_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = np.concatenate([np.full(50, 2.0), np.full(50, 30.0)])
    means = smoothed(losses)
    last = int(np.argmax(means > 4 * np.minimum.accumulate(means)))
    assert len(scripted_test(monkeypatch, losses)) == last + 1 < 100


def test_it_ends_before_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.full(100, 2.0)
    losses[33] = np.nan
    assert len(scripted_test(monkeypatch, losses)) == 33


def as_curve(rates, means) -> list[dict[str, float]]:
    names = ("step", "learning_rate", "loss", "smoothed_loss")
    return [
        dict(zip(names, (i, r, m, m), strict=True))
        for i, (r, m) in enumerate(zip(rates, means, strict=True))
    ]


@pytest.mark.parametrize("middle", [1e-3, 0.02, 0.4])
def test_the_rate_of_steepest_descent_is_chosen(middle: float) -> None:
    """On a sigmoid in log rate, with a bowl behind it, the steepest point is the middle."""
    rates = np.geomspace(1e-6, 10, 100)
    x = np.log10(rates) - np.log10(middle)
    means = 2.3 - 1.5 / (1 + np.exp(-6 * x)) + np.where(x > 1, (x - 1) ** 2, 0)
    # Central differences in log rate; the first ten steps, and all after the lowest, do not count.
    slope = (means[2:] - means[:-2]) / (np.log(rates)[2:] - np.log(rates)[:-2])
    lowest = int(np.argmin(means))
    steepest = 1 + 9 + int(np.argmin(slope[9 : lowest - 1]))
    rate, why = choose_rate(as_curve(rates, means), 0.05)
    assert rate == pytest.approx(rates[steepest], rel=0.05)  # two digits
    assert rate == pytest.approx(middle, rel=0.15)
    assert rate == float(f"{rate:.1e}")
    assert why.startswith(f"{rate:g}: where the loss fell fastest")


def test_a_steep_rise_behind_the_lowest_loss_and_the_noise_of_the_start_do_not_count() -> None:
    rates = np.geomspace(1e-6, 10, 100)
    means = np.interp(np.arange(100), [0, 3, 10, 60, 70, 80, 81, 99], [9, 2, 2, 1.9, 1, 6, 3, 9])
    rate, _ = choose_rate(as_curve(rates, means), 0.05)
    assert rates[60] <= rate <= rates[70]


def test_without_a_stretch_before_the_lowest_loss_a_tenth_of_its_rate_is_taken() -> None:
    rates = np.geomspace(1e-6, 10, 100)
    means = np.concatenate([np.full(10, 2.0), np.linspace(1.0, 5.0, 90)])
    rate, why = choose_rate(as_curve(rates, means), 0.05)
    assert rate == pytest.approx(rates[10] / 10, rel=0.05)
    assert "a tenth of the rate of the lowest loss" in why


@pytest.mark.parametrize("end", [2.0, 1.91, 8.0])
def test_a_loss_that_hardly_falls_decides_nothing(end: float) -> None:
    rates = np.geomspace(1e-6, 10, 100)
    rate, why = choose_rate(as_curve(rates, np.linspace(2.0, end, 100)), 0.05)
    assert rate == 0.05
    assert "train.learning_rate, since the loss fell by less than 5%" in why
