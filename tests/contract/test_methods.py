"""What every method promises. A new one is tested here without a new test."""

import importlib
from pathlib import Path

import pytest
import torch

from pipeline_lib.losses import uniform_targets
from pipeline_lib.methods.base import Method
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params.load import load
from pipeline_lib.params.methods import KINDS
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng, seeded_layers

ROOT = Path(__file__).parents[2]
PARAMS = load(ROOT / "params.yaml")
IMAGES, CLASSES, BATCH = 48, 6, 16
CLOCK = Clock(step=40, total_steps=60, steps_per_epoch=3)


def make_candidates(kind: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    labels = torch.arange(IMAGES) % CLASSES
    mask = torch.nn.functional.one_hot(labels, CLASSES).bool()
    if kind == "clean":
        return mask, ("labeled",) * IMAGES
    if kind == "few_shot":
        mask[12:] = True
        return mask, ("labeled_and_unlabeled",) * 12 + ("unlabeled",) * (IMAGES - 12)
    mask |= torch.rand(IMAGES, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.2
    return mask, ("partial",) * IMAGES


def make_images() -> torch.Tensor:
    """Images whose class is visible: a bright column per class, with noise."""
    noise = torch.randint(0, 80, (IMAGES, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    for image in range(IMAGES):
        noise[image, :, :, image % CLASSES] += 150
    return noise.to(torch.uint8)


def make_method(name: str) -> Method:
    candidates_NK, roles = make_candidates(KINDS[name])
    problem = Problem(candidates_NK, roles, tuple("abcdef"), BATCH)
    architecture = Architecture(
        "small_cnn", 8, 0.0, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.3,), std=(0.3,)
    )
    section = getattr(PARAMS.methods, name)
    module = importlib.import_module(f"pipeline_lib.methods.{name}")
    with seeded_layers(0, "weights"):
        method: Method = getattr(module, type(section).__name__)(
            section, problem, build(architecture)
        )
    return method


def make_batch(method: Method, step: int = 0) -> Batch:
    images = make_images()
    index, views, candidates = {}, {}, {}
    for name, stream in method.streams.items():
        order = torch.arange(step * stream.batch_size, (step + 1) * stream.batch_size)
        index_B = stream.pool_N[order % len(stream.pool_N)].unique()
        index[name] = index_B
        views[name] = tuple(images[index_B] for _ in stream.views)
        candidates[name] = method.problem.candidates_NK[index_B].float()
    return Batch(index, views, candidates)


@pytest.fixture(params=sorted(KINDS))
def method(request: pytest.FixtureRequest) -> Method:
    return make_method(request.param)


def test_every_module_of_a_method_has_params_and_a_section() -> None:
    files = {p.stem for p in (ROOT / "pipeline_lib/methods").glob("*.py")} - {"__init__", "base"}
    assert files == set(KINDS)


def test_streams_stay_inside_the_training_set(method: Method) -> None:
    assert method.streams
    for stream in method.streams.values():
        assert stream.batch_size >= 1
        assert set(stream.views) <= {"weak", "strong", "none"}
        assert int(stream.pool_N.min()) >= 0
        assert int(stream.pool_N.max()) < IMAGES


def test_a_step_gives_a_finite_loss_and_gradients_to_the_whole_network(method: Method) -> None:
    output = method.training_step(make_batch(method), CLOCK, StepRng(1, CLOCK.step))
    assert output.loss.shape == ()
    assert torch.isfinite(output.loss)
    assert not any(value.requires_grad for value in output.scalars.values())
    output.loss.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_step_is_finite_in_bfloat16_and_at_extreme_logits(method: Method) -> None:
    with torch.no_grad():
        method.model.head.weight.mul_(1e4)
    with torch.autocast("cpu", torch.bfloat16):
        output = method.training_step(make_batch(method), CLOCK, StepRng(1, CLOCK.step))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    state = method.label_state()
    assert state is None or torch.isfinite(state).all()


def test_a_step_is_a_pure_function_of_state_batch_clock_and_rng(method: Method) -> None:
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}

    def step() -> list[torch.Tensor]:
        method.load_state_dict(state)
        method.zero_grad()
        loss = method.training_step(make_batch(method), CLOCK, StepRng(1, 7)).loss
        loss.backward()
        gradients = [parameter.grad.clone() for parameter in method.parameters()]
        return [loss.detach(), *gradients, *(t.clone() for t in method.state_dict().values())]

    for first, again in zip(step(), step(), strict=True):
        assert torch.equal(first, again)


def test_training_learns_what_the_images_show(method: Method) -> None:
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    for step in range(30):
        clock = Clock(step, 30, 3)
        loss = method.training_step(make_batch(method, step), clock, StepRng(1, step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictor = method.predictor().eval()
    p_NK = predictor(make_images())
    torch.testing.assert_close(p_NK.sum(dim=1), torch.ones(IMAGES))
    covered_N = method.problem.candidates_NK.gather(1, p_NK.argmax(dim=1, keepdim=True))
    assert covered_N.float().mean() >= 0.9


def test_label_tables_stay_in_the_candidates_and_in_the_state(method: Method) -> None:
    if method.label_state() is None:
        pytest.skip("keeps no label table")
    before = method.label_state().clone()
    torch.testing.assert_close(before, uniform_targets(method.problem.candidates_NK))
    method.training_step(make_batch(method), CLOCK, StepRng(1, CLOCK.step))
    state_NK = method.label_state()
    seen = next(iter(make_batch(method).index.values()))
    assert not torch.equal(state_NK[seen], before[seen])
    torch.testing.assert_close(state_NK.sum(dim=1), torch.ones(IMAGES))
    assert (state_NK[~method.problem.candidates_NK] == 0).all()
    saved = method.state_dict()
    assert any(saved[name].data_ptr() == state_NK.data_ptr() for name in saved)


def test_the_variant_is_a_word_or_more(method: Method) -> None:
    assert method.variant.strip() == method.variant != ""
