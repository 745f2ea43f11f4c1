"""The training loop on a toy: what it keeps, when it stops, and that stopping anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.methods.average import Average
from pipeline_lib.methods.base import Method
from pipeline_lib.methods.cr_dpll import CrDpll
from pipeline_lib.methods.phases import Phase
from pipeline_lib.methods.two_phase import TwoPhase
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Train
from pipeline_lib.records import Clock, Problem
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.outputs import history_csv
from pipeline_lib.training.plateau import Plateau
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.record import Record
from pipeline_lib.training.resume import Slot
from pipeline_lib.training.selection import Rule, Validation
from pipeline_lib.training.state import restore
from tests.views import shifted

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
CPU = torch.device("cpu")
IMAGES, CLASSES, STEPS = 48, 4, 3
EPOCHS = 4
# Phases of 2, 2 and 8 steps, 12 together; the second evaluation of the last one lowers the learning rate.
TWO_PHASE = PARAMS.methods.two_phase.model_copy(
    update={
        "warmup_steps": 2,
        "supervised_steps": 2,
        "semi_supervised_steps": 8,
        "patience": 1,
        "tolerance": 0.9,
        "reductions": 9,
        "reduction_factor": 0.5,
        "threshold": 0.3,
    }
)


class FixMatchPhase(TwoPhase):
    """With the other second phase."""


class FreshStudent(TwoPhase):
    """With a student that starts anew."""


class KilledError(Exception):
    """Stands for the end of the process."""


class Quiet(TrainingProgress):
    """Says nothing, and may end the run after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(EPOCHS * STEPS, 0, STEPS)
        self.stop_after = stop_after
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, step: int) -> None:
        if self.stop_after is not None and step > self.stop_after:
            raise KilledError


def make_method(kind: type[Method], problem: Problem) -> Method:
    architecture = Architecture(
        "small_cnn", 4, 1.0, 0.2, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.3,), std=(0.3,)
    )
    section = {
        CrDpll: PARAMS.methods.cr_dpll,
        Average: PARAMS.methods.average,
        TwoPhase: TWO_PHASE,
        FixMatchPhase: TWO_PHASE.model_copy(update={"semi_supervised": "fixmatch"}),
        FreshStudent: TWO_PHASE.model_copy(update={"student": "fresh"}),
    }[kind]
    with seeded_layers(0, "weights"):
        return kind(section, problem, build(architecture))


def make_trainer(
    folder: Path, kind: type[Method] = CrDpll, rule: Rule = "covering_rate", **changes: object
) -> Trainer:
    train = Train.model_validate(
        PARAMS.train.model_dump() | {"batch_size": 16, "epochs": EPOCHS} | changes
    )
    noise = torch.Generator().manual_seed(1)
    labels = torch.arange(IMAGES) % CLASSES
    images = torch.randint(0, 90, (IMAGES, 1, 8, 8), generator=noise)
    images[torch.arange(IMAGES), 0, :, labels * 2] += 150
    candidates = torch.nn.functional.one_hot(labels, CLASSES).bool()
    candidates |= torch.rand(IMAGES, CLASSES, generator=noise) < 0.2
    roles = ("partial",) * IMAGES
    if issubclass(kind, TwoPhase):
        candidates[12:] = True
        roles = ("labeled",) * 12 + ("unlabeled",) * (IMAGES - 12)
    problem = Problem(candidates, roles, tuple("abcd"), train.batch_size, images.byte())

    bytes_NCHW = images.byte()
    pool = Pool(bytes_NCHW, candidates, lambda _: shifted(10), 1, CPU)
    validation = Validation(bytes_NCHW[:12], candidates[:12].float())
    slot = Slot(folder, {"params": {}})
    return Trainer(make_method(kind, problem), pool, validation, train, rule, STEPS, slot)


def outcome(trainer: Trainer) -> tuple[object, ...]:
    record = trainer.record
    kept = [weight for _, weight in sorted(record.kept.weights.items())]
    tensors = [*kept, *trainer.method.state_dict().values()]
    tensors += [label for part in record.labels.values() for label in part.values()]
    if record.best_labels_NK is not None:
        tensors.append(record.best_labels_NK)
    blob = b"".join(t.contiguous().numpy().tobytes() for t in tensors)
    return history_csv(record.rows), record.kept.epoch, record.best_score, blob


VARIANTS = {
    "cr_dpll": {},
    "average, adamw, ema, clipping": {
        "kind": Average,
        "optimizer": "adamw",
        "ema_decay": 0.9,
        "clip_gradient": 0.5,
        "evaluate_every": 2,
    },
    "bf16": {"precision": "bf16"},
    "two_phase, ema": {"kind": TwoPhase, "ema_decay": 0.5},
    "two_phase, fixmatch": {"kind": FixMatchPhase},
    "two_phase, fresh student": {"kind": FreshStudent},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_stopping_after_any_step_changes_nothing(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    whole = make_trainer(tmp_path / "whole", **changes)
    whole.run(Quiet())
    for stop_after in (1, 3, 7, EPOCHS * STEPS - 1):
        folder = tmp_path / f"stop{stop_after}"
        first = make_trainer(folder, checkpoint_steps=1, **changes)
        with first.slot.held(), pytest.raises(KilledError):
            first.run(Quiet(stop_after))
        second = make_trainer(folder, **changes)
        state = second.slot.load(print)
        assert state is not None
        restore(second, *state)
        assert second.done == stop_after
        second.run(Quiet())
        assert outcome(second) == outcome(whole), f"stopped after step {stop_after}"


def test_the_two_phase_training_of_these_tests_goes_through_all_of_it(tmp_path: Path) -> None:
    progress = Quiet()
    record = make_trainer(tmp_path, TwoPhase).run(progress)
    assert [phase["phase"] for phase in record.phases] == [
        "warm_up",
        "supervised",
        "semi_supervised",
    ]
    assert record.rows[-1]["learning_rate"] == pytest.approx(0.025)
    assert any("semi_supervised: val_loss no lower for 1 evaluations" in x for x in progress.lines)


def test_the_statistics_at_the_end_of_a_phase_are_those_of_the_averaged_weights(
    tmp_path: Path,
) -> None:
    """Those are what is evaluated and what the next phase begins with; dropout there is seeded."""
    trainer = make_trainer(tmp_path, TwoPhase, ema_decay=0.9)
    layers = trainer.method.model.encoder.layers
    layers.insert(3, torch.nn.Dropout(0.5))
    trainer.ema.averages[0].mul_(3.0)  # of the first convolution
    state = torch.random.get_rng_state()
    trainer._refresh_statistics()
    first = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    trainer._refresh_statistics()
    assert all(torch.equal(first[name], t) for name, t in layers.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    trainer.ema.averages[0].div_(3.0)
    trainer._refresh_statistics()
    torch.testing.assert_close(first["1.running_mean"], 3 * layers[1].running_mean)


@pytest.mark.parametrize("labeled", [True, False])
def test_without_labeled_validation_images_the_training_loss_ends_phases_and_a_line_says_so(
    tmp_path: Path, labeled: bool
) -> None:
    trainer, progress = make_trainer(tmp_path, TwoPhase, "last"), Quiet()
    if not labeled:
        trainer.validation.candidates_MK.fill_(1.0)
    trainer.run(progress)
    said = [line for line in progress.lines if "split.val_labels: clean" in line]
    assert len(said) == (0 if labeled else 1)
    watched = "val_loss" if labeled else "loss"
    assert any(f"semi_supervised: {watched} no lower" in line for line in progress.lines)


def test_a_loss_says_nothing_of_a_rate_that_is_still_rising(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, where the second evaluation lowers the rate; here it belongs to the warm-up."""
    slow = TWO_PHASE.model_copy(update={"warmup_steps": 7})
    monkeypatch.setattr("tests.unit.test_trainer.TWO_PHASE", slow)
    progress = Quiet()
    record = make_trainer(tmp_path, TwoPhase).run(progress)
    assert record.rows[-1]["learning_rate"] == pytest.approx(0.05)
    assert not any("no lower" in line for line in progress.lines)


def test_the_averaged_weights_are_those_of_every_step(tmp_path: Path) -> None:
    """And they are what is evaluated."""
    trainer = make_trainer(tmp_path, Average, "last", ema_decay=0.5)
    weight = trainer.method.model.head.weight
    average = weight.detach().double().clone()
    for _ in range(STEPS):
        trainer.step()
        average = 0.5 * average + 0.5 * weight.detach().double()
    assert not torch.allclose(average.float(), weight)
    trainer._evaluate(Quiet())
    kept = trainer.record.kept.weights["classifier.head.weight"]
    torch.testing.assert_close(kept, average.float())


def test_a_phase_begins_with_the_averaged_weights_and_a_plateau_of_its_own(tmp_path: Path) -> None:
    """Phases of 2, 2 and 8 steps: what is looked at is the end of the first and the start of the second."""
    trainer = make_trainer(tmp_path, TwoPhase, ema_decay=0.9)
    began: list[torch.Tensor] = []
    judged: list[Plateau] = []
    enter, equip = trainer.method.enter, trainer.equip

    def entering(phase: Phase) -> None:
        began.append(trainer.method.model.head.weight.detach().clone())
        enter(phase)

    def equipping(number: int) -> None:
        trainer.plateau.see(1.0, trainer.phases[-1].stability)
        equip(number)
        judged.append(dataclasses.replace(trainer.plateau))

    trainer.method.enter, trainer.equip = entering, equipping
    record = trainer.run(Quiet())
    ended = record.ends["warm_up"].weights["classifier.head.weight"]
    assert torch.equal(began[0], ended)
    assert judged == [Plateau(), Plateau()]


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the evaluations score as listed, one after the other."""
    left = iter(scores)
    monkeypatch.setattr("pipeline_lib.training.loop.score", lambda *_: next(left))


def test_the_best_epoch_is_kept_and_a_tie_goes_to_the_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.1, 0.7, 0.5, 0.7, 0.6])
    trainer = make_trainer(tmp_path)
    seen: dict[int, torch.Tensor] = {}
    evaluate = trainer._evaluate

    def noting(progress: TrainingProgress) -> dict[str, float]:
        row = evaluate(progress)
        seen[row["epoch"]] = trainer.method.model.head.weight.detach().clone()
        return row

    monkeypatch.setattr(trainer, "_evaluate", noting)
    record = trainer.run(Quiet())
    assert record.kept.epoch == 3
    assert torch.equal(record.kept.weights["classifier.head.weight"], seen[3])
    assert not torch.equal(seen[3], seen[4])
    assert torch.equal(record.best_labels_NK.argmax(dim=1).short(), record.labels["train"][3])


def test_a_long_curve_of_labels_is_thinned_and_a_short_one_kept() -> None:
    record = Record()
    for epoch in range(1001):
        for part in ("train", "val", "unlabeled"):
            record.add_labels(part, epoch, torch.tensor([epoch]))
        assert next(iter(record.labels["train"])) == 0
        assert max(record.labels["train"]) == epoch
    assert 100 <= len(record.labels["train"]) <= 200
    assert len(record.labels["val"]) == 1001
    assert list(record.labels["unlabeled"]) == list(record.labels["train"])
    assert all(int(labels) == epoch for epoch, labels in record.labels["train"].items())


def test_patience_stops_after_so_many_without_a_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.1, 0.7, 0.5, 0.7, 0.9])
    trainer, progress = make_trainer(tmp_path, patience=2), Quiet()
    record = trainer.run(progress)
    assert [row["epoch"] for row in record.rows] == [0, 1, 2, 3]
    assert progress.lines[-1] == "train: ended after step 9: no better evaluation for 2"
    assert record.phases[0]["ended"] == "no better evaluation for 2"


def test_evaluations_come_as_often_as_asked_and_at_the_end(tmp_path: Path) -> None:
    record = make_trainer(tmp_path, evaluate_every=3).run(Quiet())
    assert [row["epoch"] for row in record.rows] == [0, 3, 4]


@pytest.mark.parametrize("clip", [None, 0.01])
def test_clipping_bounds_the_gradient(tmp_path: Path, clip: float | None) -> None:
    trainer = make_trainer(tmp_path, clip_gradient=clip)
    trainer.run(Quiet())
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.method.parameters()])
    assert (norm <= 0.0101) == (clip is not None)


def test_without_a_compiler_the_network_is_not_compiled_and_that_is_said(tmp_path: Path) -> None:
    def no_compiler(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "gcc: command not found")

    plain, compiled = (make_trainer(tmp_path / name) for name in ("plain", "compiled"))
    plain.run(Quiet())
    compiled.compiled, quiet = True, Quiet()
    compiled.method.model.encoder.compile(backend=no_compiler)
    compiled.run(quiet)
    (line,) = (line for line in quiet.lines if "compiled" in line)
    assert line.startswith("the network is not compiled: ")
    assert "gcc: command not found" in line
    assert outcome(compiled) == outcome(plain)


@pytest.mark.parametrize("steps", [1, EPOCHS * STEPS])
def test_row_31_weights_that_are_not_finite_stop_the_run_and_are_not_saved(
    tmp_path: Path, steps: int
) -> None:
    """Also where the last step breaks them, which no loss shows any more."""
    trainer = make_trainer(tmp_path, learning_rate=1e30, schedule="constant", checkpoint_steps=1)
    trainer.phase = dataclasses.replace(trainer.phase, steps=steps)
    trainer.clock = Clock(0, steps, 1)
    with pytest.raises(UserError, match=r"not finite \(learning rate 1e\+30\); lower"):
        trainer.run(Quiet())
    assert list(tmp_path.rglob("step-*")) == []
    assert "nan" not in history_csv(trainer.record.rows)


def test_the_message_tells_the_rate_of_the_bad_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path, schedule="multi_step", milestones=[1], learning_rate=0.5)
    trainer.meter.bad_step = torch.tensor(1)
    trainer.clock = Clock(5, EPOCHS * STEPS, STEPS)
    with pytest.raises(UserError, match=r"the loss of step 1 is not finite \(learning rate 0.5\)"):
        trainer._stop_if_broken()


def test_patience_and_the_last_evaluations_are_a_matter_of_one_phase() -> None:
    """A phase may begin below where the one before ended, and with another kind of predictor."""
    record = Record(best_score=0.9, best_of_phase=0.9, without_better=3, collapsed=1)
    record.begin_phase()
    assert (record.without_better, record.collapsed, record.last) == (0, 0, [])
    assert (record.best_of_phase, record.best_score) == (None, 0.9)
