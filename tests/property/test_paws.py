"""What PAWS promises whatever the numbers: of its equations, and of a step at the start and at extremes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.augment.policies import View
from pipeline_lib.errors import UserError
from pipeline_lib.losses import paws as losses
from pipeline_lib.methods.paws import Paws
from pipeline_lib.methods.pawsb import Pawsb
from pipeline_lib.methods.snn import Snn
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Train
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng, seeded_layers
from pipeline_lib.training.pool import Pool
from tests.views import Changed

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
CLASSES, PER_CLASS, IMAGES = 5, 3, 6
CLOCK, RNG = Clock(0, 10, 5), StepRng(0, 0)
unhurried = settings(max_examples=50)
seeds = st.integers(0, 2**32)
temperatures = st.sampled_from([0.01, 0.1, 1.0])


def normal(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def log_predictions(seed: int, views: int, classes: int = CLASSES) -> torch.Tensor:
    return torch.log_softmax(normal(seed, views, IMAGES, classes, scale=3), dim=-1)


CLASS_S = torch.arange(CLASSES).repeat_interleave(PER_CLASS)


@unhurried
@given(seeds, temperatures)
def test_soft_neighbours_do_not_depend_on_the_order_of_the_support(seed, temperature) -> None:
    query, support = normal(seed, IMAGES, 8), normal(seed + 1, len(CLASS_S), 8)
    order = torch.randperm(len(CLASS_S), generator=torch.Generator().manual_seed(seed))
    ours = losses.soft_neighbours(query, support, CLASS_S, CLASSES, temperature)
    shuffled = losses.soft_neighbours(query, support[order], CLASS_S[order], CLASSES, temperature)
    torch.testing.assert_close(shuffled, ours)
    torch.testing.assert_close(
        ours.exp().sum(dim=1), torch.ones(IMAGES, dtype=torch.float64), rtol=1e-9, atol=0
    )


@unhurried
@given(seeds, st.floats(1e-3, 1e3))
def test_soft_neighbours_see_directions_only(seed, length) -> None:
    query, support = normal(seed, IMAGES, 8), normal(seed + 1, len(CLASS_S), 8)
    ours = losses.soft_neighbours(query, support, CLASS_S, CLASSES, 0.1)
    longer = losses.soft_neighbours(length * query, support / length, CLASS_S, CLASSES, 0.1)
    torch.testing.assert_close(longer, ours)


@unhurried
@given(seeds, st.sampled_from([0.001, 0.01]))
def test_a_far_class_keeps_a_finite_logarithm_and_gradient(seed, temperature) -> None:
    """Unlike the logarithm of the product, which is that of 0 in float32 at such temperatures."""
    query = normal(seed, IMAGES, 4).float().requires_grad_()
    support = torch.cat([query[:1].detach().repeat(14, 1), -query[:1].detach()])
    class_S = torch.tensor([0] * 14 + [1])
    log_p_BK = losses.soft_neighbours(query, support, class_S, 2, temperature)
    log_p_BK.sum().backward()
    assert torch.isfinite(log_p_BK).all()
    assert log_p_BK.min() < -100
    assert torch.isfinite(query.grad).all()


@unhurried
@given(seeds, st.sampled_from([0.1, 0.25, 1.0]), st.integers(0, 3))
def test_targets_sum_to_one_but_for_what_was_cut_off(seed, sharpening, small_views) -> None:
    large = log_predictions(seed, 2)
    targets_VBK = losses.view_targets(large, sharpening, small_views)
    assert targets_VBK.shape == (2 + small_views, IMAGES, CLASSES)
    sharp = (large / sharpening).softmax(dim=-1)
    whole_VBK = torch.stack([sharp[1], sharp[0], *[sharp.mean(dim=0)] * small_views])
    torch.testing.assert_close(whole_VBK.sum(dim=-1), torch.ones_like(whole_VBK[..., 0]))
    kept_VBK = whole_VBK >= losses.SMALLEST_TARGET
    torch.testing.assert_close(targets_VBK, whole_VBK * kept_VBK)
    assert ((targets_VBK == 0) | (targets_VBK >= losses.SMALLEST_TARGET)).all()
    assert (targets_VBK.sum(dim=-1) > 1 - CLASSES * losses.SMALLEST_TARGET).all()


@unhurried
@given(seeds, st.integers(0, 3))
def test_swapping_the_large_views_swaps_their_losses(seed, small_views) -> None:
    log_p_VBK = log_predictions(seed, 2 + small_views)
    swapped_VBK = torch.cat([log_p_VBK[:2].flip(0), log_p_VBK[2:]])

    def per_view(log_p_VBK: torch.Tensor) -> torch.Tensor:
        targets_VBK = losses.view_targets(log_p_VBK[:2], 0.25, small_views)
        pairs = zip(log_p_VBK, targets_VBK, strict=True)
        return torch.stack([losses.view_assignment_loss(p[None], t[None]) for p, t in pairs])

    ours, other = per_view(log_p_VBK), per_view(swapped_VBK)
    torch.testing.assert_close(other[:2], ours[:2].flip(0))
    torch.testing.assert_close(other[2:], ours[2:])
    torch.testing.assert_close(
        losses.mean_entropy(swapped_VBK, 0.25), losses.mean_entropy(log_p_VBK, 0.25)
    )


@unhurried
@given(seeds, st.sampled_from([0.1, 0.25, 1.0]))
def test_a_class_that_nothing_is_of_leaves_the_mean_entropy_a_finite_slope(
    seed, sharpening
) -> None:
    """Unlike `p log p` of a mean that is 0 in float32."""
    logits_VBK = 3 * normal(seed, 2, IMAGES, CLASSES).float()
    logits_VBK[..., 0] -= 200
    logits_VBK.requires_grad_()
    nats = losses.mean_entropy(torch.log_softmax(logits_VBK, dim=-1), sharpening)
    nats.backward()
    assert torch.isfinite(nats)
    assert torch.isfinite(logits_VBK.grad).all()


@unhurried
@given(seeds, st.just(0.0) | st.floats(1e-9, 0.9))
def test_smoothing_the_prediction_is_smoothing_the_labels(seed, smoothing) -> None:
    log_p_BK = log_predictions(seed, 1)[0]
    expected = (1 - smoothing) * log_p_BK.exp() + smoothing / CLASSES
    torch.testing.assert_close(losses.smooth(log_p_BK, smoothing).exp(), expected)


@unhurried
@given(seeds, temperatures)
def test_suncet_is_least_where_classes_stand_apart(seed, temperature) -> None:
    mixed = losses.suncet_loss(normal(seed, len(CLASS_S), 8), CLASS_S, temperature)
    apart = losses.suncet_loss(torch.eye(CLASSES, 8)[CLASS_S], CLASS_S, temperature)
    assert 0 <= apart < mixed


# --- steps of the methods ---------------------------------------------------------------------------


def make_problem(labeled: int = 15, unlabeled: int = 20) -> Problem:
    count = labeled + unlabeled
    candidates_NK = torch.ones(count, CLASSES, dtype=torch.bool)
    candidates_NK[:labeled] = torch.eye(CLASSES, dtype=torch.bool)[torch.arange(labeled) % CLASSES]
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    roles = ("labeled",) * labeled + ("unlabeled",) * unlabeled
    return Problem(candidates_NK, roles, tuple("abcde"), IMAGES, images.byte())


def make(kind: type, problem: Problem | None = None, name: str = "small_cnn", **changes: object):
    defaults = {Paws: PARAMS.methods.paws, Pawsb: PARAMS.methods.pawsb, Snn: PARAMS.methods.snn}
    section = type(defaults[kind]).model_validate(defaults[kind].model_dump() | changes)
    side = 16 if name == "lenet" else 8
    architecture = Architecture(
        name, 8, 1.0, 0.0, "auto", 0.1, 1, side, side, CLASSES, mean=(0.5,), std=(0.3,)
    )
    with seeded_layers(0, "weights"):
        return kind(section, problem or make_problem(), build(architecture))


def make_batch(method: Paws, value: int | None = None) -> Batch:
    """A batch of the method's streams; small views are crops, `value` makes all pixels alike."""

    def view(name: str) -> View:
        return View((Changed(side=6 if name == "small" else 8, value=value),))

    problem = method.problem
    pool = Pool(problem.images_NCHW, problem.candidates_NK, view, 1, torch.device("cpu"))
    return pool.batch(method.streams, 0)


@pytest.mark.parametrize("me_max", [0.0, 1.0])
@pytest.mark.parametrize("small_views", [0, 2])
def test_at_the_start_the_loss_is_that_of_equal_classes(me_max, small_views) -> None:
    """About ln C, less the weight times the entropy ln C: near-random embeddings are nobody's neighbours."""
    method = make(Paws, me_max=me_max, small_views=small_views, temperature=1.0)
    loss = method.training_step(make_batch(method), method.draw(CLOCK, RNG)).loss.detach()
    assert float(loss) == pytest.approx((1 - me_max) * math.log(CLASSES), abs=0.03)


@pytest.mark.parametrize("value", [None, 0, 255])
@pytest.mark.parametrize("temperature", [0.001, 0.1])
@pytest.mark.parametrize("bf16", [False, True])
def test_row_35_steps_are_finite_for_flat_images_and_steep_similarities(
    value, temperature, bf16
) -> None:
    for smoothing in (0.0, 0.1):
        method = make(Paws, temperature=temperature, label_smoothing=smoothing, sharpening=0.01)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = method.training_step(make_batch(method, value), method.draw(CLOCK, RNG))
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert output.loss.dtype == torch.float32
        assert all(torch.isfinite(v) for v in output.scalars.values())
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_similarities_are_taken_in_float32_under_autocast() -> None:
    query, support = normal(1, IMAGES, 8).float(), normal(2, len(CLASS_S), 8).float()
    plain = losses.soft_neighbours(query, support, CLASS_S, CLASSES, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        half = losses.soft_neighbours(query, support, CLASS_S, CLASSES, 0.1)
    assert torch.equal(half, plain)


@settings(max_examples=10)
@given(st.integers(2, CLASSES), st.integers(1, 4), st.integers(1, 2), st.integers(0, 2))
def test_any_shape_of_support_trains(classes, per_class, support_views, small_views) -> None:
    method = make(
        Paws,
        classes_per_batch=classes,
        images_per_class=per_class,
        support_views=support_views,
        small_views=small_views,
        finetune="none",
    )
    output = method.training_step(make_batch(method), method.draw(CLOCK, RNG))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert float(output.scalars["prediction_entropy"]) <= math.log(classes) + 1e-6
    compared = "support_classification" in output.scalars
    assert compared == (per_class * support_views > 1)


@pytest.mark.parametrize("kind", [Paws, Pawsb, Snn])
def test_row_35_a_class_without_labeled_image_is_refused_by_name(kind) -> None:
    name = kind.__name__.lower()
    message = (
        f"method: {name} needs a labeled image of every class; of 3 labeled images none is of d, e"
    )
    with pytest.raises(UserError, match=message):
        make(kind, make_problem(labeled=3))


@pytest.mark.parametrize("kind", [Paws, Snn])
def test_row_33_more_classes_than_there_are_are_refused_with_both_numbers(kind) -> None:
    name = kind.__name__.lower()
    message = f"methods.{name}.classes_per_batch: 6, but there are 5 classes; take 5 or fewer"
    with pytest.raises(UserError, match=message):
        make(kind, classes_per_batch=6)


def test_no_unlabeled_images_are_refused() -> None:
    with pytest.raises(
        UserError, match="paws learns from unlabeled images, and none of the 15 training"
    ):
        make(Paws, make_problem(unlabeled=0))


def test_a_single_support_sample_per_class_is_refused_where_suncet_needs_two() -> None:
    changes = {"images_per_class": 1, "support_views": 1}
    with pytest.raises(UserError, match=r"methods\.paws\.images_per_class: 1 in 1 view leaves"):
        make(Paws, finetune="suncet", **changes)
    make(Paws, finetune="none", **changes)


def test_a_network_for_one_size_is_refused_where_small_views_are_asked() -> None:
    with pytest.raises(UserError, match=r"methods\.paws\.small_views: 2, but the network"):
        make(Paws, name="lenet", small_views=2)
    make(Paws, name="lenet", small_views=0)


def test_partial_labels_are_no_support_and_unlabeled() -> None:
    problem = make_problem()
    candidates_NK = problem.candidates_NK.clone()
    candidates_NK[[3, 20], :] = torch.tensor([True, True, False, False, False])
    roles = list(problem.roles)
    roles[3] = roles[20] = "partial"
    method = make(
        Paws, Problem(candidates_NK, tuple(roles), tuple("abcde"), IMAGES, problem.images_NCHW)
    )
    pools = {name: set(stream.pool_N.tolist()) for name, stream in method.streams.items()}
    assert pools["support"] == set(range(15)) - {3}
    assert pools["unlabeled"] == set(range(15, 35)) | {3}


def test_fine_tuning_has_a_rate_of_its_own_and_no_decay() -> None:
    lars = Train.model_validate(PARAMS.train.model_dump() | {"optimizer": "lars"})
    for finetune, optimizer, end in (("suncet", "lars", 0.1), ("linear", "sgd", 0.0)):
        method = make(Paws, finetune=finetune, finetune_steps=7, finetune_learning_rate=0.3)
        pretrain, tuned = method.phases(lars, 3)
        assert (pretrain.name, pretrain.steps, pretrain.train) == (
            "pretrain",
            lars.epochs * 3,
            lars,
        )
        assert (tuned.name, tuned.steps, tuned.train.optimizer) == ("finetune", 7, optimizer)
        assert (tuned.train.learning_rate, tuned.train.cosine_end) == (0.3, end)
        assert (tuned.train.schedule, tuned.train.weight_decay) == ("cosine", 0.0)
    assert [p.name for p in make(Paws, finetune="none").phases(lars, 3)] == ["pretrain"]


def test_pawsb_says_in_one_line_what_it_is() -> None:
    notice = make(Pawsb).notice
    assert notice == (
        "pawsb: PAWS (Assran et al. 2021) in its base configuration: one device, support of 5 classes x 5 "
        "images, 2 views, no prediction head, predicting by soft nearest neighbours, no fine-tuning"
    )
    assert make(Paws).notice is None
