"""What every method promises. A new one is tested here without a new test."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline_lib.augment.policies import View
from pipeline_lib.losses.common import uniform_targets
from pipeline_lib.methods.base import Method
from pipeline_lib.methods.phases import Phase
from pipeline_lib.models.predictor import predictor_like
from pipeline_lib.params.methods import KINDS
from pipeline_lib.records import NO_GUESS, Batch, Clock
from pipeline_lib.rng import StepRng
from pipeline_lib.training.pool import Pool
from tests.toy_methods import ARCHITECTURE, IMAGES, PARAMS, make_images, make_method
from tests.views import Changed

ROOT = Path(__file__).parents[2]
HELPERS = {"__init__", "base", "phases", "semi_supervised", "support"}
VIEWS = {"weak", "strong", "global", "small", "none"}
MODULES = set(vars(torch.nn.Module()))  # what any module has
CLOCK = Clock(step=40, total_steps=60, steps_per_epoch=3)


def make_batch(method: Method, step: int = 0) -> Batch:
    """The batch of a step, with plain views; small ones are crops."""

    def view(name: str) -> View:
        return View((Changed(side=6 if name == "small" else 8),))

    pool = Pool(make_images(), method.problem.candidates_NK, view, 1, torch.device("cpu"))
    return pool.batch(method.streams, step)


def phases(method: Method) -> Iterator[Phase]:
    """Go through the phases of the method's training."""
    for phase in method.phases(PARAMS.train, 3):
        method.enter(phase)
        yield phase


@pytest.fixture(params=KINDS)
def method(request: pytest.FixtureRequest) -> Method:
    return make_method(request.param)


def test_every_module_of_a_method_has_params_and_a_section() -> None:
    files = {p.stem for p in (ROOT / "pipeline_lib/methods").glob("*.py")} - HELPERS
    assert files == set(KINDS)


def test_streams_stay_inside_the_training_set(method: Method) -> None:
    streams = [stream for _ in phases(method) for stream in method.streams.values()]
    assert streams
    for stream in streams:
        assert stream.batch_size >= 1
        assert set(stream.views) <= VIEWS
        assert int(stream.pool_N.min()) >= 0
        assert int(stream.pool_N.max()) < IMAGES


def test_phases_have_names_of_their_own_and_one_has_steps(method: Method) -> None:
    found = list(phases(method))
    assert len({phase.name for phase in found}) == len(found)
    assert sum(phase.steps for phase in found) > 0


def test_steps_give_finite_losses_and_gradients_to_the_whole_network(method: Method) -> None:
    reached = set()
    for _ in phases(method):
        output = method.training_step(
            make_batch(method), method.draw(CLOCK, StepRng(1, CLOCK.step))
        )
        assert output.loss.shape == ()
        assert torch.isfinite(output.loss)
        assert not any(value.requires_grad for value in output.scalars.values())
        output.loss.backward()
        for name, parameter in method.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), name
                reached.add(name)
    assert reached == {name for name, p in method.named_parameters() if p.requires_grad}


def test_steps_are_finite_in_bfloat16_and_at_extreme_outputs(method: Method) -> None:
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.ndim == 2:  # linear layers: the head, or a projection
                parameter.mul_(1e4)
    for _ in phases(method):
        with torch.autocast("cpu", torch.bfloat16):
            output = method.training_step(
                make_batch(method), method.draw(CLOCK, StepRng(1, CLOCK.step))
            )
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    state = method.label_state()
    assert state is None or torch.isfinite(state).all()


def test_a_step_changes_nothing_that_a_resume_state_does_not_hold(method: Method) -> None:
    """Such as a buffer that is not persistent, or a counter in Python: a training gone on with would differ."""
    for _ in phases(method):
        found = []
        for step in range(3):
            drawn = method.draw(CLOCK, StepRng(1, CLOCK.step + step))
            method.training_step(make_batch(method, step), drawn)
            found.append(unsaved(method))
        # after the first: layers take their defaults to themselves in it
        assert found[0] == found[1] == found[2]


def unsaved(method: Method) -> dict[str, object]:
    """What a method holds beside its `state_dict`, as values."""
    kept = set(method.state_dict())
    tensors = {name: tensor.tolist() for name, tensor in method.named_buffers() if name not in kept}
    plain = {
        f"{name}.{key}": value.tolist() if isinstance(value, torch.Tensor) else repr(value)
        for name, module in method.named_modules()
        for key, value in vars(module).items()
        if key not in MODULES and not isinstance(value, torch.nn.Module)
    }
    return tensors | plain


def test_a_step_is_a_pure_function_of_state_batch_clock_and_rng(method: Method) -> None:
    for _ in phases(method):
        check_that_a_step_is_pure(method)


def check_that_a_step_is_pure(method: Method) -> None:
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}

    def step() -> list[torch.Tensor]:
        method.load_state_dict(state)
        method.zero_grad()
        loss = method.training_step(make_batch(method), method.draw(CLOCK, StepRng(1, 7))).loss
        loss.backward()
        gradients = [p.grad.clone() for p in method.parameters() if p.grad is not None]
        return [loss.detach(), *gradients, *(t.clone() for t in method.state_dict().values())]

    for first, again in zip(step(), step(), strict=True):
        assert torch.equal(first, again)


def test_a_step_moves_the_batch_statistics_as_often_as_the_method_says(method: Method) -> None:
    """What is left of a variance that was huge tells how often; `unfinished` counts on it."""
    first = next(iter(method.phases(PARAMS.train, 3)))
    method.enter(first)
    norm = next(m for m in method.model.modules() if isinstance(m, _BatchNorm))
    norm.running_var.fill_(1e30)
    method.training_step(make_batch(method), method.draw(CLOCK, StepRng(1, 7)))
    moved = math.log(norm.running_var[0].item() / 1e30) / math.log(1 - norm.momentum)
    assert moved == pytest.approx(method.recordings_per_step, abs=1e-3)


def test_training_learns_what_the_images_show(method: Method) -> None:
    step = 0
    for phase in phases(method):
        optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.01)
        steps = min(phase.steps, 60)  # after 30, the last bits decide whether `lws` is there
        for number in range(steps):
            clock = Clock(number, steps, 3)
            loss = method.training_step(
                make_batch(method, step), method.draw(clock, StepRng(1, step))
            ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    predictor = method.predictor().eval()
    with torch.no_grad():
        p_NK = predictor(make_images())
    torch.testing.assert_close(p_NK.sum(dim=1), torch.ones(IMAGES))
    covered_N = method.problem.candidates_NK.gather(1, p_NK.argmax(dim=1, keepdim=True))
    assert covered_N.float().mean() >= 0.9


def test_a_predictor_is_built_again_from_its_description(method: Method) -> None:
    for _ in phases(method):
        predictor = method.predictor().eval()
        twin = predictor_like(ARCHITECTURE, json.loads(json.dumps(predictor.description)))
        twin.load_state_dict(predictor.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(twin.eval()(make_images()), predictor(make_images()))


def test_label_tables_stay_in_the_candidates_and_in_the_state(method: Method) -> None:
    if method.label_state() is None:
        pytest.skip("keeps no label table")
    before = method.label_state().clone()
    torch.testing.assert_close(before, uniform_targets(method.problem.candidates_NK))
    for _ in phases(method):
        method.training_step(make_batch(method), method.draw(CLOCK, StepRng(1, CLOCK.step)))
    state_NK = method.label_state()
    seen = torch.cat(list(make_batch(method).index.values()))
    assert not torch.equal(state_NK[seen], before[seen])
    torch.testing.assert_close(state_NK.sum(dim=1), torch.ones(IMAGES))
    assert (state_NK[~method.problem.candidates_NK] == 0).all()
    saved = method.state_dict()
    assert any(saved[name].data_ptr() == state_NK.data_ptr() for name in saved)


def test_confident_guesses_are_classes_of_candidates_or_none(method: Method) -> None:
    """Kept in the state of the method, so that a resumed training has them too."""
    found = []
    for _ in phases(method):
        for step in range(3):
            batch = make_batch(method, step)
            method.training_step(batch, method.draw(CLOCK, StepRng(1, CLOCK.step)))
        found.append(method.confident_guesses())
    for guesses_N in found:
        if guesses_N is not None:
            assert (guesses_N.dtype, len(guesses_N)) == (torch.int16, IMAGES)
            sure_N = (guesses_N != NO_GUESS).nonzero().flatten()
            assert method.problem.candidates_NK[sure_N, guesses_N[sure_N].long()].all()
    table_NK = method.label_state()
    if table_NK is not None:
        top_N, class_N = table_NK.numpy().max(axis=1), table_NK.numpy().argmax(axis=1)
        assert found[-1].tolist() == [
            k if p >= 0.95 else -1 for p, k in zip(top_N, class_N, strict=True)
        ]
    guessing = {stream for _ in phases(method) for stream in method.streams} >= {"unlabeled"}
    assert any(g is not None for g in found) == (guessing or table_NK is not None)


def test_the_state_has_one_shape_in_all_phases(method: Method) -> None:
    shapes = [
        {name: tensor.shape for name, tensor in method.state_dict().items()} for _ in phases(method)
    ]
    assert all(shape == shapes[0] for shape in shapes)


def test_the_variant_is_a_word_or_more(method: Method) -> None:
    assert method.variant.strip() == method.variant != ""


def test_every_method_is_explained_and_listed() -> None:
    explained = (ROOT / "docs/explanation/methods.md").read_text(encoding="utf-8")
    listed = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = [line for line in explained.splitlines() if line.startswith("## ")]
    for name in KINDS:
        said = any(f"`{name}`" in line for line in headings)
        assert said, f"docs/explanation/methods.md: no heading names `{name}`"
        assert f"| `{name}`" in listed, f"README.md: no row of `{name}` in the table of methods"
