"""What the semi-supervised methods promise beyond the contract of all methods."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from pipeline_lib.methods.fixmatch import FixMatch
from pipeline_lib.methods.freematch import FreeMatch
from pipeline_lib.methods.mixmatch import MixMatch
from pipeline_lib.methods.softmatch import SoftMatch
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params import methods as params
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng, seeded_layers
from pipeline_lib.training.pool import Pool
from tests.views import shifted

CLASSES, BATCH = 5, 8

SECTIONS = {
    MixMatch: params.MixMatch(
        unlabeled_ratio=2,
        guesses=3,
        temperature=0.5,
        alpha=0.75,
        mixup="all",
        lambda_u=10,
        ramp_steps=0,
        bn="interleaved",
    ),
    FixMatch: params.FixMatch(unlabeled_ratio=3, threshold=1.0, lambda_u=1),
    FreeMatch: params.FreeMatch(unlabeled_ratio=3, decay=0.9, lambda_u=1, lambda_fairness=0.1),
    SoftMatch: params.SoftMatch(
        unlabeled_ratio=3, decay=0.9, sigmas=2, uniform_alignment=True, lambda_u=1
    ),
}
every_method = pytest.mark.parametrize("kind", SECTIONS)


def make_problem(images: int = 60) -> Problem:
    """Labels, candidate sets of two, images in both sets, and unlabeled ones."""
    candidates = torch.ones(images, CLASSES, dtype=torch.bool)
    label = torch.arange(12) % CLASSES
    candidates[:12] = torch.nn.functional.one_hot(label, CLASSES).bool()
    candidates[6:12] |= torch.nn.functional.one_hot((label[6:] + 1) % CLASSES, CLASSES).bool()
    roles = ("labeled",) * 3 + ("labeled_and_unlabeled",) * 3 + ("partial",) * 6
    pixels = torch.randint(
        0, 256, (images, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    names = tuple("abcde")
    roles += ("unlabeled",) * (images - 12)
    return Problem(candidates, roles, names, BATCH, pixels)


def make_method(kind, problem: Problem, **changes):
    shape = Architecture(
        "small_cnn", 4, 1.0, 0.0, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.5,), std=(0.3,)
    )
    section = SECTIONS[kind].model_copy(update=changes)
    with seeded_layers(1, "weights"):
        return kind(section, problem, build(shape))


def make_batch(method, problem: Problem, step: int = 0) -> Batch:
    pool = Pool(
        problem.images_NCHW, problem.candidates_NK, lambda _: shifted(9), 1, torch.device("cpu")
    )
    return pool.batch(method.streams, step)


def step(method, batch: Batch, number: int = 0):
    return method.training_step(batch, method.draw(Clock(number, 100, 10), StepRng(1, number)))


@every_method
def test_candidate_sets_train_and_unlabeled_images_have_guesses_inside_theirs(kind) -> None:
    problem = make_problem()
    method = make_method(kind, problem)
    batch = make_batch(method, problem)
    labeled = method.streams["labeled"].pool_N
    assert labeled.tolist() == list(range(12))
    before = method.label_state().clone()
    step(method, batch)
    after = method.label_state()
    assert (after[~problem.candidates_NK] == 0).all()
    torch.testing.assert_close(after.sum(dim=1), torch.ones(60))
    assert method.streams["unlabeled"].pool_N.tolist() == list(range(3, 60))
    partial = [i for i in set(batch.index["unlabeled"].tolist()) if 6 <= i < 12]
    assert partial, "some of them are in this batch"
    assert not torch.equal(after[partial], before[partial])


@every_method
def test_a_large_table_of_unlabeled_images_is_drawn_from_by_the_ratio(kind) -> None:
    method = make_method(kind, make_problem(), unlabeled_ratio=4)
    streams = method.streams
    assert (streams["labeled"].batch_size, streams["unlabeled"].batch_size) == (8, 32)


def test_guessing_leaves_the_running_statistics_and_the_gradients_alone() -> None:
    problem = make_problem()
    method = make_method(MixMatch, problem)
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    guess = method.guess(make_batch(method, problem).views["unlabeled"])
    assert not guess.requires_grad
    assert all(torch.equal(before[n], v) for n, v in method.model.state_dict().items())
    assert method.model.training


def test_shares_are_drawn_per_image_and_are_at_least_one_half() -> None:
    problem = make_problem()
    method = make_method(MixMatch, problem, mixup="separate", unlabeled_ratio=30)

    def draw(step: int) -> torch.Tensor:
        return method.draw(Clock(0, 100, 10), StepRng(1, step))["share"]

    kept = draw(0)
    assert float(kept.min()) >= 0.5
    assert len(kept.unique()) > 300
    assert torch.equal(kept, draw(0))
    assert not torch.equal(kept, draw(1))
    # for Beta(3/4, 3/4) the mean of max(l, 1 - l) is 0.778
    assert float(kept.mean()) == pytest.approx(0.778, abs=0.02)


def test_a_batch_without_a_confident_pseudo_label_trains_on_the_labels_alone() -> None:
    problem = make_problem()
    method = make_method(FixMatch, problem)  # no softmax reaches 1.0 here
    output = step(method, make_batch(method, problem))
    output.loss.backward()
    assert float(output.scalars["pseudo_label_rate"]) == 0
    assert float(output.loss.detach()) == pytest.approx(float(output.scalars["supervised_loss"]))
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize("kind", [FreeMatch, SoftMatch])
def test_adaptive_thresholds_are_part_of_the_state(kind) -> None:
    problem = make_problem()
    method, other = make_method(kind, problem), make_method(kind, problem)
    start = copy.deepcopy(method.state_dict())
    step(method, make_batch(method, problem))
    assert all(not torch.equal(start[n], v) for n, v in method.state_dict().items() if "." not in n)
    other.load_state_dict(method.state_dict())
    batch = make_batch(method, problem, 1)
    assert torch.equal(step(method, batch, 1).loss, step(other, batch, 1).loss)


@every_method
def test_the_entropy_of_the_mean_prediction_is_reported_for_the_alarm(kind) -> None:
    problem = make_problem()
    method = make_method(kind, problem)
    value = float(step(method, make_batch(method, problem)).scalars["prediction_entropy"])
    assert 0 < value <= math.log(CLASSES) + 1e-6
