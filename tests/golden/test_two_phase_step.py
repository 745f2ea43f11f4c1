"""Steps of both phases against NumPy: whose prediction is the target, and what carries gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.methods.phases import Phase
from pipeline_lib.methods.two_phase import TwoPhase
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng
from tests.toy_methods import PARAMS

N, K, PIXELS = 9, 4, 6
LABELED, UNLABELED = [0, 1, 2], [3, 4, 5, 6, 7, 8]


class NormModel(nn.Module):
    """Batch normalisation and a linear layer, so that a pass in training mode can be told."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(7)
        self.norm = nn.BatchNorm1d(PIXELS, affine=False)
        self.norm.running_mean = torch.tensor(draw.uniform(80, 160, PIXELS), dtype=torch.float32)
        self.norm.running_var = torch.tensor(draw.uniform(900, 4000, PIXELS), dtype=torch.float32)
        self.head = nn.Linear(PIXELS, K)
        self.head.weight.data = torch.tensor(draw.normal(size=(K, PIXELS)), dtype=torch.float32)

    def forward(self, images_BCHW):
        return self.head(self.norm(images_BCHW.flatten(1).float()))


def make_method(**changes) -> TwoPhase:
    candidates = np.ones((N, K), bool)
    candidates[LABELED] = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]]  # the last one is ambiguous
    roles = ("labeled", "labeled", "partial") + ("unlabeled",) * 6
    problem = Problem(torch.tensor(candidates), roles, tuple("abcd"), 3, torch.zeros(N, 1, 2, 3))
    section = PARAMS.methods.two_phase.model_copy(update={"unlabeled_ratio": 2} | changes)
    return TwoPhase(section, problem, NormModel()).train()


def enter(method: TwoPhase, name: str) -> None:
    method.enter(Phase(name, 10, PARAMS.train))


def make_batch(method: TwoPhase) -> Batch:
    draw = np.random.default_rng(5)
    rows = {"labeled": LABELED, "unlabeled": UNLABELED}
    return Batch(
        {name: torch.tensor(rows[name]) for name in method.streams},
        {
            name: tuple(
                torch.tensor(draw.integers(0, 256, (len(rows[name]), 1, 2, 3), dtype=np.uint8))
                for _ in stream.views
            )
            for name, stream in method.streams.items()
        },
        {name: method.problem.candidates_NK[rows[name]].float() for name in method.streams},
    )


def flat(view: torch.Tensor):
    return view.numpy().reshape(len(view), PIXELS).astype(float)


def logits(model: NormModel, x_BP, statistics=None):
    """Normalised by the given mean and variance, or those of the batch."""
    mean, variance = statistics or (x_BP.mean(axis=0), x_BP.var(axis=0))
    normal_BP = (x_BP - mean) / np.sqrt(variance + 1e-5)
    weight, bias = (p.detach().numpy().astype(float) for p in model.head.parameters())
    return normal_BP @ weight.T + bias


def log_softmax(z_BK):
    return z_BK - np.log(np.exp(z_BK).sum(axis=1, keepdims=True))


LABELED_BK = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]])


def supervised(z_BK):
    """The mean negative log-likelihood of the candidates."""
    return -np.log((LABELED_BK * np.exp(log_softmax(z_BK))).sum(axis=1)).mean()


def cross_entropy(z_BK, targets_BK, weights_B=1.0):
    return (weights_B * -(targets_BK * log_softmax(z_BK)).sum(axis=1)).mean()


def step(method: TwoPhase, batch: Batch):
    output = method.training_step(batch, method.draw(Clock(0, 10, 5), StepRng(0, 0)))
    output.loss.backward()
    return output


@pytest.mark.parametrize("phase", ["warm_up", "supervised"])
def test_the_first_phases_learn_from_the_labeled_images(phase: str) -> None:
    method = make_method()
    enter(method, phase)
    batch = make_batch(method)
    assert list(batch.views) == ["labeled"]
    expected = supervised(logits(method.model, flat(batch.views["labeled"][0])))
    assert float(step(method, batch).loss.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("threshold", "lambda_u"), [(0.0, 1.0), (0.6, 1.0), (0.6, 0.3), (1.0, 1.0)]
)
def test_a_student_learns_the_softly_guessed_labels_of_its_teacher(
    threshold: float, lambda_u: float
) -> None:
    method = make_method(threshold=threshold, lambda_u=lambda_u)
    enter(method, "supervised")
    assert method.confident_guesses() is None
    with torch.no_grad():
        method.model.head.weight.mul_(1.3)  # the teacher is the network as it is now
        method.model.norm.running_mean.add_(5)
    running = method.model.norm
    statistics = (
        running.running_mean.numpy().astype(float),
        running.running_var.numpy().astype(float),
    )
    enter(method, "semi_supervised")
    batch = make_batch(method)
    assert [s.views for s in method.streams.values()] == [("weak",), ("none", "strong")]
    plain, strong = map(flat, batch.views["unlabeled"])
    p_UK = np.exp(log_softmax(logits(method.model, plain, statistics)))
    with torch.no_grad():
        method.model.head.weight.mul_(0.5)  # the student moves on, its teacher does not
    together = np.concatenate([flat(batch.views["labeled"][0]), strong])
    z_BK, z_UK = np.split(logits(method.model, together), [3])
    counts_U = p_UK.max(axis=1) >= threshold
    unlabeled = cross_entropy(z_UK, p_UK, counts_U)
    expected = supervised(z_BK) + lambda_u * unlabeled

    state = {name: tensor.clone() for name, tensor in method.teacher.state_dict().items()}
    output = step(method, batch)

    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(output.scalars["unlabeled_loss"]) == pytest.approx(unlabeled, rel=1e-4)
    assert float(output.scalars["pseudo_label_rate"]) == pytest.approx(counts_U.mean())
    mean_K = p_UK.mean(axis=0)
    entropy = -(mean_K * np.log(mean_K)).sum()
    assert float(output.scalars["prediction_entropy"]) == pytest.approx(entropy, rel=1e-4)
    sure = [p_K.argmax() if p_K.max() >= 0.95 else -1 for p_K in p_UK]
    assert len(set(sure)) > 1
    assert method.confident_guesses().tolist() == [0, 2, -1, *sure]
    assert method.label_state() is None
    assert all(torch.equal(tensor, state[n]) for n, tensor in method.teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_fixmatch_learns_its_own_confident_class_of_the_weak_views() -> None:
    method = make_method(semi_supervised="fixmatch", threshold=0.6, lambda_u=0.7)
    enter(method, "semi_supervised")
    batch = make_batch(method)
    assert method.streams["unlabeled"].views == ("weak", "strong")
    views = [*batch.views["labeled"], *batch.views["unlabeled"]]
    z_BK, weak_UK, strong_UK = np.split(
        logits(method.model, np.concatenate([flat(view) for view in views])), [3, 9]
    )
    p_UK = np.exp(log_softmax(weak_UK))
    counts_U = p_UK.max(axis=1) >= 0.6
    assert 0 < counts_U.sum() < len(counts_U)
    unlabeled = cross_entropy(strong_UK, np.eye(K)[p_UK.argmax(axis=1)], counts_U)
    output = step(method, batch)
    expected = supervised(z_BK) + 0.7 * unlabeled
    assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert method.teacher is None


@pytest.mark.parametrize("student", ["continued", "fresh"])
def test_a_student_starts_as_its_teacher_or_as_the_training_did(student: str) -> None:
    method = make_method(student=student)
    first = {name: tensor.clone() for name, tensor in method.model.state_dict().items()}
    enter(method, "supervised")
    step(method, make_batch(method))
    with torch.no_grad():
        method.model.head.weight.add_(1)
    trained = {name: tensor.clone() for name, tensor in method.model.state_dict().items()}
    enter(method, "semi_supervised")
    expected = trained if student == "continued" else first
    for name, tensor in method.model.state_dict().items():
        assert torch.equal(tensor, expected[name])
        assert torch.equal(method.teacher.state_dict()[name], trained[name])


def test_the_teacher_stays_in_evaluation_mode() -> None:
    method = make_method()
    assert method.train().model.training
    assert not method.teacher.training
    assert not method.eval().model.training


def test_the_phases_have_the_found_rate_and_their_own_warm_up() -> None:
    method = make_method(warmup_steps=8, supervised_steps=20, semi_supervised_steps=30)
    method.learning_rate = 0.3
    warm_up, supervised, semi_supervised = method.phases(PARAMS.train, 4)
    assert [p.steps for p in (warm_up, supervised, semi_supervised)] == [8, 20, 30]
    assert [p.train.warmup_epochs for p in (warm_up, supervised, semi_supervised)] == [2, 0, 2]
    assert {p.train.learning_rate for p in (warm_up, supervised, semi_supervised)} == {0.3}
    assert {p.train.schedule for p in (warm_up, supervised, semi_supervised)} == {"constant"}
    assert warm_up.stability is None
    assert warm_up.refresh_statistics
    assert supervised.stability == semi_supervised.stability is not None


def test_without_a_threshold_fixmatch_has_the_paper_s_and_a_teacher_none() -> None:
    p_UK = torch.tensor([[0.94, 0.02, 0.02, 0.02], [0.96, 0.02, 0.01, 0.01]])
    assert make_method(semi_supervised="fixmatch", threshold=None).weigh(p_UK).tolist() == [0, 1]
    assert make_method(threshold=None).weigh(p_UK).tolist() == [1, 1]
    assert make_method(semi_supervised="fixmatch", threshold=0.0).weigh(p_UK).tolist() == [1, 1]
