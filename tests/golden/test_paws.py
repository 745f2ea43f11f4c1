"""PAWS and soft nearest neighbours against the published formulas, written out in NumPy float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.losses import paws as losses
from pipeline_lib.methods.paws import Paws
from pipeline_lib.methods.phases import Phase
from pipeline_lib.methods.snn import Snn
from pipeline_lib.params import methods as params
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng
from tests.golden.by_hand import slope, softmax

TAU, T, SMOOTHING = 0.1, 0.25, 0.1
K, PER_CLASS, IMAGES, WIDTH = 4, 3, 5, 6
CLOCK, RNG = Clock(0, 10, 5), StepRng(0, 0)

# --- the formulas -----------------------------------------------------------------------------------


def unit(z_BD):
    return z_BD / np.sqrt((z_BD**2).sum(axis=1, keepdims=True))


def soft_neighbours(z_BD, s_SD, y_SK):
    """p = softmax_j(z . s_j / tau) Y_S."""
    weight_BS = np.exp(unit(z_BD) @ unit(s_SD).T / TAU)
    return weight_BS / weight_BS.sum(axis=1, keepdims=True) @ y_SK


def sharpen(p_BK):
    """rho(p)_k = p_k^(1/T) / sum p^(1/T)."""
    return p_BK ** (1 / T) / (p_BK ** (1 / T)).sum(axis=1, keepdims=True)


def targets_of(large):
    """H(rho(p2), p1), H(rho(p1), p2), H((rho(p1) + rho(p2)) / 2, pk); below 1e-4 is 0."""

    def target(view):
        one, two = sharpen(large[0]), sharpen(large[1])
        t_BK = (two, one, (one + two) / 2)[min(view, 2)].copy()
        t_BK[t_BK < 1e-4] = 0
        return t_BK

    return target


def paws_loss(views, target, me_max):
    """1/((2 + m) n) sum_i sum_k H(target_k, p_k) - me_max H(pbar)."""
    total, n = 0.0, len(views[0])
    for number, p_BK in enumerate(views):
        for t_K, p_K in zip(target(number), p_BK, strict=True):
            total -= (t_K * np.log(p_K)).sum() / (len(views) * n)
    mean_K = np.concatenate([sharpen(p_BK) for p_BK in views]).mean(axis=0)
    return total + me_max * (mean_K * np.log(mean_K)).sum()


def suncet(z_SD, class_S):
    """-mean_i log(sum_{same class, j != i} e_ij / sum_{j != i} e_ij)."""
    e_SS = np.exp(unit(z_SD) @ unit(z_SD).T / TAU)
    total = 0.0
    for i in range(len(z_SD)):
        others = [j for j in range(len(z_SD)) if j != i]
        same = [j for j in others if class_S[j] == class_S[i]]
        total -= np.log(e_SS[i, same].sum() / e_SS[i, others].sum()) / len(z_SD)
    return total


def smoothed_labels(class_S, classes):
    return (1 - SMOOTHING) * np.eye(classes)[class_S] + SMOOTHING / classes


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def close(ours, golden):
    np.testing.assert_allclose(np.asarray(ours.detach()), golden, rtol=1e-9, atol=1e-12)


# --- the equations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0, SMOOTHING])
def test_soft_neighbours_are_the_softmax_over_the_support_times_its_labels(smoothing) -> None:
    z, s = draws(7, WIDTH), draws(12, WIDTH, seed=1)
    class_S = np.arange(12) % 5
    y_SK = (1 - smoothing) * np.eye(5)[class_S] + smoothing / 5
    log_p_BK = losses.soft_neighbours(
        torch.tensor(z), torch.tensor(s), torch.tensor(class_S), 5, TAU
    )
    close(losses.smooth(log_p_BK, smoothing).exp(), soft_neighbours(z, s, y_SK))


@pytest.mark.parametrize("small_views", [0, 1, 6])
@pytest.mark.parametrize("me_max", [0, 1, 0.5])
def test_the_loss_is_the_papers_for_any_number_of_small_views(small_views, me_max) -> None:
    views = [softmax(3 * draws(IMAGES, K, seed=v)) for v in range(2 + small_views)]
    log_p_VBK = torch.tensor(np.log(views))
    targets_VBK = losses.view_targets(log_p_VBK[:2], T, small_views)
    assert (targets_VBK == 0).any(), "or the case shows nothing of the truncation"
    for number, target_BK in enumerate(targets_VBK):
        close(target_BK, targets_of(views)(number))
    ours = losses.view_assignment_loss(log_p_VBK, targets_VBK)
    ours = ours - me_max * losses.mean_entropy(log_p_VBK, T)
    close(ours, paws_loss(views, targets_of(views), me_max))


def test_suncet_is_the_papers() -> None:
    z_SD, class_S = draws(9, WIDTH), np.array([0, 1, 2, 2, 1, 0, 0, 2, 1])
    close(losses.suncet_loss(torch.tensor(z_SD), torch.tensor(class_S), TAU), suncet(z_SD, class_S))


def test_instance_discrimination_is_the_cross_entropy_of_finding_the_other_view() -> None:
    one, two = draws(6, WIDTH), draws(6, WIDTH, seed=1)
    p_BB = softmax(unit(one) @ unit(two).T / TAU)
    ours = losses.instance_discrimination_loss(torch.tensor(one), torch.tensor(two), TAU)
    close(ours, -np.log(np.diag(p_BB)).mean())


# --- whole steps ------------------------------------------------------------------------------------


class LinearFeatures(nn.Module):
    """Features linear in the pixels, however many, in float64, so that NumPy can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_PD = nn.Parameter(torch.tensor(draws(WIDTH, WIDTH, seed=5)))
        self.head = nn.Linear(WIDTH, K)

    def features(self, images_BCHW):
        pixels_BP = images_BCHW.flatten(1).double()
        return pixels_BP @ self.weight_PD[: pixels_BP.shape[1]]


class NormedFeatures(LinearFeatures):
    """With a batch normalisation, of known running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, affine=False).double()
        self.norm.running_mean.fill_(100)
        self.norm.running_var.fill_(2500)

    def features(self, images_BCHW):
        return self.norm(super().features(images_BCHW))


def make_problem() -> Problem:
    candidates_NK = torch.ones(20, K, dtype=torch.bool)
    candidates_NK[:12] = torch.eye(K, dtype=torch.bool).repeat(PER_CLASS, 1)
    roles = ("labeled_and_unlabeled",) * 12 + ("unlabeled",) * 8
    images_NCHW = torch.tensor(pixels(20, seed=9))
    return Problem(candidates_NK, roles, tuple("abcd"), IMAGES, images_NCHW)


def pixels(images, seed):
    return np.random.default_rng(seed).integers(0, 256, (images, 1, 2, 3), dtype=np.uint8)


def make_paws(model=None, **changes) -> Paws:
    settings = {
        "classes_per_batch": None,
        "images_per_class": PER_CLASS,
        "support_views": 2,
        "small_views": 0,
        "temperature": TAU,
        "sharpening": T,
        "label_smoothing": SMOOTHING,
        "me_max": 0.7,
        "projection_layers": 0,
        "projection_width": None,
        "prediction_head": False,
        "finetune": "none",
        "finetune_steps": 5,
        "finetune_learning_rate": 0.1,
    }
    return Paws(params.Paws(**settings | changes), make_problem(), model or LinearFeatures())


def make_batch(small_views=0, classes=K) -> Batch:
    """Random images in every view: what the views show of each other plays no part in the equations."""
    unlabeled = [torch.tensor(pixels(IMAGES, seed=v)) for v in range(2 + small_views)]
    support = [torch.tensor(pixels(classes * PER_CLASS, seed=20 + v)) for v in range(2)]
    return Batch(
        {"unlabeled": torch.arange(IMAGES), "support": torch.arange(classes * PER_CLASS)},
        {"unlabeled": tuple(unlabeled), "support": tuple(support)},
        {},
    )


def golden_step(weight_PD, batch, me_max, head_DD, classes):
    """The loss as a function of the weights, its targets and their support fixed at `weight_PD`."""
    views = [v.flatten(1).numpy().astype(float) for v in batch.views["unlabeled"]]
    support = np.concatenate([v.flatten(1).numpy() for v in batch.views["support"]]).astype(float)
    y_SK = smoothed_labels(np.tile(np.repeat(np.arange(classes), PER_CLASS), 2), classes)
    h = [soft_neighbours(v @ weight_PD, support @ weight_PD, y_SK) for v in views[:2]]
    target = targets_of(h)

    def loss(anchor_PD):
        z = [
            soft_neighbours(v @ anchor_PD @ head_DD, support @ anchor_PD @ head_DD, y_SK)
            for v in views
        ]
        return paws_loss(z, target, me_max)

    return loss, h, target


@pytest.mark.parametrize("small_views", [0, 2])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("classes", [K, 2])
def test_a_step_has_the_papers_loss_and_gradient(small_views, head, classes) -> None:
    """Targets from before the prediction head and without gradient; the anchors' support carries it."""
    method = make_paws(small_views=small_views, classes_per_batch=classes)
    head_DD = draws(WIDTH, WIDTH, seed=8) if head else np.eye(WIDTH)
    if head:
        method.prediction = nn.Linear(WIDTH, WIDTH, bias=False).double()
        method.prediction.weight.data = torch.tensor(head_DD.T)
    batch = make_batch(small_views, classes)
    weight_PD = method.model.weight_PD.detach().numpy().copy()
    golden, h, target = golden_step(weight_PD, batch, 0.7, head_DD, classes)

    output = method.training_step(batch, method.draw(CLOCK, RNG))
    output.loss.backward()

    close(output.loss, golden(weight_PD))
    np.testing.assert_allclose(
        method.model.weight_PD.grad, slope(golden, weight_PD), rtol=1e-5, atol=1e-8
    )
    scalars = output.scalars
    # The loss chart draws every scalar that ends in `_loss` as a part of the loss: these are, and no others.
    parts = {name: value for name, value in scalars.items() if name.endswith("_loss")}
    assert list(parts) == ["agreement_loss", "mean_entropy_loss"]
    close(parts["agreement_loss"] + 0.7 * parts["mean_entropy_loss"], output.loss.detach())
    confidence = np.concatenate([target(0), target(1)]).max(axis=1).mean()
    close(scalars["target_confidence"], confidence)
    plain_K = (np.concatenate(h).mean(axis=0) - SMOOTHING / classes) / (1 - SMOOTHING)
    close(scalars["prediction_entropy"], -(plain_K * np.log(plain_K)).sum())


@pytest.mark.parametrize("classes", [K, 2])
def test_confident_guesses_are_the_mean_targets_of_the_large_views(classes, monkeypatch) -> None:
    """Of two images both views are near a support image, of a third one near another in each view."""
    monkeypatch.setitem(globals(), "TAU", 0.01)  # of the embeddings of noise, none is near another
    method, batch = make_paws(classes_per_batch=classes), make_batch(0, classes)
    support, views = batch.views["support"][0], batch.views["unlabeled"]
    for view, shown in zip(views, [(0, PER_CLASS, 0), (0, PER_CLASS, PER_CLASS)], strict=True):
        view[: len(shown)] = support[list(shown)]
    weight_PD = method.model.weight_PD.detach().numpy().copy()
    _, _, target = golden_step(weight_PD, batch, 0.7, np.eye(WIDTH), classes)
    method.training_step(batch, method.draw(CLOCK, RNG))
    if classes < K:  # a target has too few classes to choose from
        assert method.confident_guesses() is None
        return
    mean_BK = (target(0) + target(1)) / 2
    sure = [t_K.argmax() if t_K.max() >= 0.95 else -1 for t_K in mean_BK]
    assert sure[:3] == [0, 1, -1]
    assert method.confident_guesses().tolist() == [*sure, *[-1] * (20 - IMAGES)]


def test_the_diagnostics_are_those_of_the_embeddings_before_the_prediction_head() -> None:
    method, batch = make_paws(prediction_head=True), make_batch()
    method.prediction.double()
    scalars = method.training_step(batch, method.draw(CLOCK, RNG)).scalars
    weight_PD = method.model.weight_PD.detach().numpy()
    h = [v.flatten(1).numpy() @ weight_PD for v in batch.views["unlabeled"]]
    s = np.concatenate([v.flatten(1).numpy() for v in batch.views["support"]]) @ weight_PD
    class_S = np.tile(np.repeat(np.arange(K), PER_CLASS), 2)
    close(scalars["support_classification"], suncet(s, class_S))
    p_BB = softmax(unit(h[0]) @ unit(h[1]).T / TAU)
    close(scalars["instance_discrimination"], -np.log(np.diag(p_BB)).mean())


def test_batch_statistics_are_those_of_the_large_views_and_the_support_together() -> None:
    """And the small views have a pass of their own."""
    method = make_paws(NormedFeatures(), small_views=2)
    batch = make_batch(2)
    loss = method.training_step(batch, method.draw(CLOCK, RNG)).loss
    weight_PD = method.model.weight_PD.detach().numpy()

    def normal(views):
        x = np.concatenate([v.flatten(1).numpy() for v in views]) @ weight_PD
        return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)

    large = normal([*batch.views["support"], *batch.views["unlabeled"][:2]])
    small = normal(batch.views["unlabeled"][2:])
    s, views = large[: 2 * K * PER_CLASS], np.concatenate([large[2 * K * PER_CLASS :], small])
    y_SK = smoothed_labels(np.tile(np.repeat(np.arange(K), PER_CLASS), 2), K)
    p = [soft_neighbours(v, s, y_SK) for v in views.reshape(4, IMAGES, WIDTH)]
    close(loss, paws_loss(p, targets_of(p), 0.7))


def enter(method: Paws, name: str) -> None:
    method.enter(Phase(name, 5, None))  # type: ignore[arg-type]


def test_fine_tuning_by_suncet_uses_the_statistics_of_pre_training_and_leaves_them() -> None:
    method = make_paws(NormedFeatures(), finetune="suncet").train()
    enter(method, "finetune")
    batch = make_batch()
    loss = method.training_step(batch, method.draw(CLOCK, RNG)).loss
    x = np.concatenate([v.flatten(1).numpy() for v in batch.views["support"]])
    z = (x @ method.model.weight_PD.detach().numpy() - 100) / np.sqrt(2500 + 1e-5)
    close(loss, suncet(z, np.tile(np.repeat(np.arange(K), PER_CLASS), 2)))
    assert int(method.model.norm.num_batches_tracked) == 0


def test_a_linear_head_starts_at_equal_classes_on_the_first_projection_layer() -> None:
    method = make_paws(finetune="linear", projection_layers=3, projection_width=5).double()
    enter(method, "finetune")
    (stream,) = method.streams.values()
    labels_BK = torch.eye(K).repeat(PER_CLASS, 1)
    images = torch.tensor(pixels(12, seed=2))
    batch = Batch({"labeled": stream.pool_N}, {"labeled": (images,)}, {"labeled": labels_BK})
    loss = method.training_step(batch, method.draw(CLOCK, RNG)).loss
    loss.backward()
    close(loss, np.float32(np.log(K)))
    h = images.flatten(1).numpy() @ method.model.weight_PD.detach().numpy()
    linear, norm = method.projection[0][0], method.projection[0][1]
    h = h @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    h = np.maximum((h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + norm.eps), 0)
    error_BK = 1 / K - labels_BK.numpy()
    np.testing.assert_allclose(method.linear.weight.grad, error_BK.T @ h / 12, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in method.projection[1:].parameters())


def test_snn_is_suncet_on_one_view_of_the_support() -> None:
    section = params.Snn(
        classes_per_batch=None,
        images_per_class=PER_CLASS,
        temperature=TAU,
        projection_layers=0,
        projection_width=None,
    )
    method = Snn(section, make_problem(), LinearFeatures())
    view = make_batch().views["support"][0]
    loss = method.training_step(Batch({}, {"support": (view,)}, {}), method.draw(CLOCK, RNG)).loss
    z = view.flatten(1).numpy() @ method.model.weight_PD.detach().numpy()
    close(loss, suncet(z, np.repeat(np.arange(K), PER_CLASS)))


def test_the_predictor_is_soft_neighbours_among_all_labeled_images_as_they_are() -> None:
    method = make_paws(NormedFeatures()).train()
    predictor = method.predictor()
    assert method.training
    problem, images = method.problem, torch.tensor(pixels(5, seed=3))
    weight_PD = method.model.weight_PD.detach().numpy()

    def embedded(x):
        return (x.flatten(1).numpy() @ weight_PD - 100) / np.sqrt(2500 + 1e-5)

    labels = problem.candidates_NK[:12].numpy().astype(float)
    golden = soft_neighbours(embedded(images), embedded(problem.images_NCHW[:12]), labels)
    with torch.no_grad():
        ours = predictor.eval()(images)
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-6)
    assert predictor.description["supports"] == 12
