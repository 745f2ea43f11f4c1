"""What holds for the partial-label methods on any input, and what images without a label do to them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize, one_hot

from pipeline_lib.losses import partial
from pipeline_lib.losses.common import uniform_targets
from pipeline_lib.models.build import build
from pipeline_lib.params.methods import KINDS
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng, seeded_layers
from tests.toy_methods import ARCHITECTURE, BATCH, CLASSES, IMAGES, PARAMS, make_images

METHODS = tuple(name for name, kind in KINDS.items() if kind == "partial")
UNLABELED = torch.arange(IMAGES) >= IMAGES // 2
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([0.01, 1.0, 100.0, 1e30])


def drawn(seed: int, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """Logits of six images over five classes, and sets of one to five candidates."""
    generator = torch.Generator().manual_seed(seed)
    logits_BK = scale * torch.randn(6, 5, generator=generator)
    candidates_BK = (torch.rand(6, 5, generator=generator) < 0.5).float()
    candidates_BK[torch.arange(6), torch.randint(5, (6,), generator=generator)] = 1
    candidates_BK[0] = 1
    return logits_BK, candidates_BK, generator


def split_weights(candidates_BK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    others_BK = 1 - candidates_BK
    return uniform_targets(candidates_BK), others_BK / others_BK.sum(1, keepdim=True).clamp_min(1)


@given(SEEDS, SCALES, st.floats(0, 10))
@settings(max_examples=50)
def test_the_leveraged_loss_is_bounded_and_names_of_classes_do_not_matter(seed, scale, beta):
    logits_BK, candidates_BK, generator = drawn(seed, scale)
    inside_BK, outside_BK = split_weights(candidates_BK)
    loss = partial.leveraged_loss(logits_BK, inside_BK, outside_BK, beta)
    assert 0 <= float(loss) <= 1 + beta + 1e-5
    order = torch.randperm(5, generator=generator)
    renamed = (tensor[:, order] for tensor in (logits_BK, inside_BK, outside_BK))
    torch.testing.assert_close(partial.leveraged_loss(*renamed, beta), loss)


@given(SEEDS, SCALES, st.floats(0, 1))
@settings(max_examples=50)
def test_disambiguated_labels_are_distributions_on_the_candidates(seed, scale, phi):
    embedding_BD, candidates_BK, generator = drawn(seed, scale)
    prototypes_KD = normalize(torch.randn(5, 5, generator=generator), dim=1)
    before_BK = uniform_targets(candidates_BK)
    after_BK = partial.disambiguated(before_BK, embedding_BD, prototypes_KD, candidates_BK, phi)
    torch.testing.assert_close(after_BK.sum(dim=1), torch.ones(6))
    assert (after_BK[candidates_BK == 0] == 0).all()
    assert (after_BK >= phi * before_BK - 1e-6).all()


@given(SEEDS, st.floats(0, 0.999))
@settings(max_examples=50)
def test_prototypes_have_unit_length_or_were_never_seen(seed, decay):
    embedding_BD, _, generator = drawn(seed, 1.0)
    class_B = torch.randint(4, (6,), generator=generator)  # never the last class
    moved_KD = partial.moved_prototypes(
        torch.zeros(5, 5), normalize(embedding_BD, dim=1), class_B, decay
    )
    seen_K = one_hot(class_B, 5).amax(dim=0)
    torch.testing.assert_close(moved_KD.norm(dim=1), seen_K.float())


@given(SEEDS, st.sampled_from([0.01, 0.07, 1.0]))
@settings(max_examples=50)
def test_the_contrastive_loss_is_not_negative_and_falls_towards_the_positive(seed, temperature):
    anchor_BD, _, generator = drawn(seed, 1.0)
    anchor_BD = normalize(anchor_BD, dim=1)
    others_MD = normalize(torch.randn(6, 5, generator=generator), dim=1)
    own_BM, all_BM = torch.eye(6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool)
    loss = partial.contrastive_loss(anchor_BD, others_MD, own_BM, all_BM, temperature)
    assert float(loss) >= 0
    nearer_MD = normalize(others_MD + anchor_BD, dim=1)
    own = torch.stack([others_MD[i : i + 1] for i in range(6)])
    near = torch.stack([nearer_MD[i : i + 1] for i in range(6)])
    for i in range(6):
        rest = torch.cat([others_MD[:i], others_MD[i + 1 :]])
        first = torch.zeros(1, 6, dtype=torch.bool)
        first[0, 0] = True
        losses = [
            partial.contrastive_loss(
                anchor_BD[i : i + 1], torch.cat([key[i], rest]), first, all_BM[:1], temperature
            )
            for key in (own, near)
        ]
        assert losses[1] <= losses[0] + 1e-6


def make_method(name: str):
    """Half of the images have a label or two candidates, half of them none."""
    class_N = torch.arange(IMAGES) % CLASSES
    candidates_NK = one_hot(class_N, CLASSES).bool()
    candidates_NK[6:12] |= one_hot((class_N[6:12] + 1) % CLASSES, CLASSES).bool()
    candidates_NK[UNLABELED] = True
    roles = tuple("unlabeled" if nothing else "partial" for nothing in UNLABELED)
    problem = Problem(candidates_NK, roles, tuple("abcdef"), BATCH, make_images())
    section = getattr(PARAMS.methods, name)
    module = __import__(f"pipeline_lib.methods.{name}", fromlist=[name])
    with seeded_layers(0, "weights"):
        return getattr(module, type(section).__name__)(section, problem, build(ARCHITECTURE))


def batch_of(method, rows: torch.Tensor) -> Batch:
    views = {name: stream.views for name, stream in method.streams.items()}
    return Batch(
        dict.fromkeys(views, rows),
        {name: tuple(make_images()[rows] for _ in wanted) for name, wanted in views.items()},
        dict.fromkeys(views, method.problem.candidates_NK[rows].float()),
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("epoch", [0, 1, 20])
def test_a_batch_without_any_label_is_finite(name, epoch) -> None:
    method = make_method(name)
    rows = UNLABELED.nonzero().flatten()[:BATCH]
    for step in range(3):
        clock = Clock(3 * epoch + step, 90, 3)
        output = method.training_step(batch_of(method, rows), method.draw(clock, StepRng(0, step)))
        output.loss.backward()
        assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    state_NK = method.label_state()
    if state_NK is not None:
        torch.testing.assert_close(state_NK.sum(dim=1), torch.ones(IMAGES))


@pytest.mark.parametrize(
    ("name", "epoch"),
    [("cc", 0), ("cc", 20), ("average", 0), ("lws", 0), ("lws", 20), ("cr_dpll", 0)],
)
def test_images_without_a_label_pull_at_nothing(name, epoch) -> None:
    """Throughout; CR-DPLL by its supervised term, which is all of it in the first epoch."""
    method = make_method(name)
    rows = UNLABELED.nonzero().flatten()[:BATCH]
    output = method.training_step(
        batch_of(method, rows), method.draw(Clock(3 * epoch, 90, 3), StepRng(0, 0))
    )
    output.loss.backward()
    assert abs(float(output.loss.detach())) < 1e-6
    assert all(p.grad.abs().max() < 1e-6 for p in method.parameters())


def test_lws_has_no_weight_outside_the_candidates_where_all_classes_are_some() -> None:
    method = make_method("lws")
    assert (method.outside_NK[UNLABELED] == 0).all()
    rows = torch.arange(IMAGES)
    method.training_step(batch_of(method, rows), method.draw(Clock(0, 90, 3), StepRng(0, 0)))
    assert (method.outside_NK[UNLABELED] == 0).all()
    torch.testing.assert_close(method.outside_NK[~UNLABELED].sum(1), torch.ones(IMAGES // 2))
    torch.testing.assert_close(method.inside_NK.sum(1), torch.ones(IMAGES))
