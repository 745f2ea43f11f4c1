"""The parts of the training loop, each against an independent account of what it should do."""

import math
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.augment.policies import policy
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Train
from pipeline_lib.records import Clock, StepOutput, Stream
from pipeline_lib.training import determinism
from pipeline_lib.training import pool as pool_module
from pipeline_lib.training.device import choose_device
from pipeline_lib.training.ema import Ema
from pipeline_lib.training.meter import Meter
from pipeline_lib.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer
from pipeline_lib.training.outputs import history_csv
from pipeline_lib.training.pool import Feed, Pool
from pipeline_lib.training.schedule import learning_rate
from pipeline_lib.training.selection import Validation, resolve_rule, score, validate
from tests.views import PLAIN, shifted

TRAIN = load(Path(__file__).parents[2] / "params.yaml").train
CPU = torch.device("cpu")


def train_with(**changes: object) -> Train:
    return Train.model_validate(TRAIN.model_dump() | changes)


def rates(train: Train, epochs: int, steps: int) -> list[float]:
    return [learning_rate(train, Clock(s, epochs * steps, steps)) for s in range(epochs * steps)]


def torch_rates(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step() if len(seen) < steps else None
    return seen


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)


@pytest.mark.parametrize("total", [10, 37, 400])
def test_one_cycle_is_torchs(optimizer: torch.optim.Optimizer, total: int) -> None:
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, total_steps=total, cycle_momentum=False
    )
    ours = rates(train_with(schedule="one_cycle"), 1, total)
    assert ours == pytest.approx(torch_rates(scheduler, total), rel=1e-6)


def test_cosine_is_torchs(optimizer: torch.optim.Optimizer) -> None:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    ours = rates(train_with(schedule="cosine"), 5, 10)
    assert ours == pytest.approx(torch_rates(scheduler, 50), rel=1e-6)


def test_fixmatchs_cosine_ends_at_cos_of_seven_sixteenths_pi() -> None:
    ours = rates(train_with(schedule="cosine", cosine_cycles=7 / 32), 1, 1000)
    assert ours[-1] == pytest.approx(0.05 * math.cos(7 * math.pi / 16 * 0.999))


def test_multi_step_falls_at_the_milestones() -> None:
    ours = rates(train_with(schedule="multi_step", milestones=[2, 3], gamma=0.1), 4, 5)
    assert ours == pytest.approx([0.05] * 10 + [0.005] * 5 + [0.0005] * 5)


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    ours = rates(train_with(schedule="constant", warmup_epochs=2.0), 4, 5)
    assert ours == pytest.approx([0.05 * (s + 1) / 10 for s in range(10)] + [0.05] * 10)


@given(
    st.sampled_from(["constant", "one_cycle", "cosine", "multi_step"]),
    st.integers(1, 5),
    st.integers(1, 7),
    st.floats(0, 3),
)
def test_every_rate_is_positive_or_zero_and_at_most_the_peak(
    schedule: str, epochs: int, steps: int, warmup: float
) -> None:
    for rate in rates(train_with(schedule=schedule, warmup_epochs=warmup), epochs, steps):
        assert 0 <= rate <= 0.05 * (1 + 1e-9)


def test_ema_is_the_weighted_sum_of_all_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    weights = [1.0, 4.0, -2.0]
    layer.weight.data.fill_(weights[0])
    ema = Ema(layer, 0.9)
    for weight in weights[1:]:
        layer.weight.data.fill_(weight)
        ema.update()
    expected = 0.9 * (0.9 * 1.0 + 0.1 * 4.0) + 0.1 * -2.0
    with ema.applied():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == -2.0
    other = Ema(layer, 0.9)
    other.restore(ema.tensors())
    with other.applied():
        assert layer.weight.item() == pytest.approx(expected)


def test_ema_has_biases_and_normalisations_too() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    ema = Ema(layers, 0.9)
    before = [p.detach().clone() for p in layers.parameters()]
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter += 1
    ema.update()
    assert len(before) == 4
    with ema.applied():
        for parameter, old in zip(layers.parameters(), before, strict=True):
            torch.testing.assert_close(parameter.detach(), old + 0.1)


def test_without_decay_the_weights_are_evaluated() -> None:
    layer = torch.nn.Linear(1, 1)
    ema = Ema(layer, 0.0)
    layer.weight.data.fill_(3.0)
    ema.update()
    with ema.applied():
        assert layer.weight.item() == 3.0
    assert ema.tensors() == {}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_restored_optimizer_steps_as_the_old_one(kind: str) -> None:
    def step(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        parameter.grad = torch.full((3,), 0.5)
        optimizer.step()

    first = torch.nn.Parameter(torch.ones(3))
    old = build_optimizer(train_with(optimizer=kind), [first])
    step(first, old)
    second = torch.nn.Parameter(first.detach().clone())
    new = build_optimizer(train_with(optimizer=kind), [second])
    restore_optimizer(new, {k: t.clone() for k, t in optimizer_tensors(old).items()})
    step(first, old)
    step(second, new)
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "lars"])
def test_a_restored_optimizer_has_the_layout_of_the_weights(kind: str) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    old = build_optimizer(train_with(optimizer=kind), [weight])
    weight.grad = torch.randn_like(weight)
    old.step()
    new = build_optimizer(train_with(optimizer=kind), [weight])
    saved = {name: tensor.contiguous() for name, tensor in optimizer_tensors(old).items()}
    restore_optimizer(new, saved)
    for name, value in new.state[weight].items():
        if value.ndim:
            assert value.stride() == weight.stride(), name
            assert torch.equal(value, old.state[weight][name])


def make_pool(size: int, seed: int = 1) -> Pool:
    images = torch.arange(size, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    views = {"none": PLAIN, "weak": shifted(9)}
    return Pool(images.clone(), torch.eye(size).bool(), views.__getitem__, seed, CPU)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 30))
def test_batches_are_permutations_one_after_the_other(size: int, wanted: int, step: int) -> None:
    streams = {"train": Stream(torch.arange(size), wanted, ("none",))}
    batch = make_pool(size).batch(streams, step)
    index = batch.index["train"]
    assert len(index) == wanted
    counts = index.bincount(minlength=size)
    if size >= wanted:
        assert counts.max() == 1
    else:
        assert counts.max() - counts.min() <= 1 + 1
    assert torch.equal(batch.views["train"][0][:, 0, 0, 0].long(), index)
    assert torch.equal(batch.candidates["train"].argmax(dim=1), index)


def test_a_pass_shows_every_image_once() -> None:
    streams = {"train": Stream(torch.arange(12), 4, ("none",))}
    pool = make_pool(12)
    for first in (0, 3):
        seen = torch.cat([pool.batch(streams, first + s).index["train"] for s in range(3)])
        assert sorted(seen.tolist()) == list(range(12))


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    streams = {
        "a": Stream(torch.arange(20), 6, ("weak", "weak")),
        "b": Stream(torch.arange(5, 9), 6, ("weak",)),
    }
    busy = make_pool(20)
    for step in (0, 9, 3):
        busy.batch(streams, step)
    again, fresh = busy.batch(streams, 7), make_pool(20).batch(streams, 7)
    for name in streams:
        assert torch.equal(again.index[name], fresh.index[name])
        for ours, theirs in zip(again.views[name], fresh.views[name], strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(*fresh.views["a"]), "two views of one image differ"
    assert not torch.equal(make_pool(20, seed=2).batch(streams, 7).index["a"], fresh.index["a"])


class Fixed(torch.nn.Module):
    def __init__(self, p_MK: torch.Tensor) -> None:
        super().__init__()
        self.p_MK = p_MK

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.p_MK[: len(images)]


def test_validation_measures_by_hand() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    candidates = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    verdict = validate(Fixed(p), Validation(torch.zeros(2, 1, 4, 4), candidates))
    assert verdict is not None
    assert verdict.labels_M.tolist() == [0, 0]
    assert verdict.measures == {
        "val_loss": pytest.approx(-(math.log(0.9) + math.log(0.5)) / 2),
        "val_covering_rate": pytest.approx(0.5),
        "val_approximated_accuracy": pytest.approx(0.7 / 0.9 / 2),
    }
    assert score("covering_rate", verdict, 3) == pytest.approx(0.5)
    assert score("last", verdict, 3) == 3.0


def test_with_one_candidate_each_the_covering_rate_is_the_accuracy() -> None:
    validation = Validation(torch.zeros(2, 1, 4, 4), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    verdict = validate(Fixed(torch.tensor([[0.9, 0.1], [0.4, 0.6]])), validation)
    assert verdict is not None
    assert verdict.measures["val_accuracy"] == verdict.measures["val_covering_rate"] == 0.5


def test_no_validation_images_no_verdict() -> None:
    assert (
        validate(Fixed(torch.zeros(0, 2)), Validation(torch.zeros(0, 1, 4, 4), torch.zeros(0, 2)))
        is None
    )


CLEAN, SETS, NOTHING = torch.eye(3), torch.tensor([[1.0, 1.0, 0.0]]), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("select", "candidates", "rule"),
    [
        ("auto", CLEAN, "val_accuracy"),
        ("auto", SETS, "covering_rate"),
        ("auto", NOTHING, "last"),
        ("auto", torch.zeros(0, 3), "last"),
        ("approximated_accuracy", SETS, "approximated_accuracy"),
        ("last", NOTHING, "last"),
    ],
)
def test_the_rule_is_what_the_labels_allow(
    select: str, candidates: torch.Tensor, rule: str
) -> None:
    assert resolve_rule(select, candidates, None) == rule


@pytest.mark.parametrize(
    ("select", "candidates"),
    [("val_accuracy", SETS), ("covering_rate", NOTHING), ("val_accuracy", torch.zeros(0, 3))],
)
def test_a_rule_that_the_labels_do_not_allow_is_refused(
    select: str, candidates: torch.Tensor
) -> None:
    with pytest.raises(UserError, match=f"train.select: {select} needs"):
        resolve_rule(select, candidates, None)


def test_patience_without_a_measure_is_refused() -> None:
    assert resolve_rule("auto", SETS, 3) == "covering_rate"
    with pytest.raises(UserError, match=r"train\.patience: the rule is to keep the last epoch"):
        resolve_rule("auto", NOTHING, 3)


def test_the_meter_averages_and_finds_the_first_bad_step() -> None:
    meter = Meter(CPU, 0)
    for value in (1.0, 3.0):
        meter.add(StepOutput(torch.tensor(value), {"part": torch.tensor(2 * value)}))
    saved = meter.tensors()
    assert meter.take() == {"loss": 2.0, "part": 4.0}
    assert meter.take() == {}
    meter.restore(saved)
    assert meter.take() == {"loss": 2.0, "part": 4.0}
    assert int(meter.bad_step) == -1
    for value in ("nan", "inf"):
        meter.add(StepOutput(torch.tensor(float(value)), {"part": torch.tensor(0.0)}))
    assert int(meter.bad_step) == 2


def test_history_has_a_line_per_evaluation_and_blanks_where_nothing_was_measured() -> None:
    rows = [
        {"epoch": 0, "step": 0, "val_loss": 1.5},
        {"epoch": 1, "step": 7, "loss": 1 / 3, "val_loss": 1.0},
    ]
    assert history_csv(rows) == "epoch,step,loss,val_loss\n0,0,,1.5\n1,7,0.333333,1\n"
    assert history_csv(rows[:0], "val_loss") == "val_loss\n"
    assert history_csv([{"epoch": 0, "loss": 2.0}], "val_loss") == "epoch,loss,val_loss\n0,2,\n"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decay", ["all", "kernels"])
def test_decay_of_kernels_leaves_biases_and_normalisations_alone(
    optimizer: str, decay: str
) -> None:
    """Without a gradient a step only decays."""
    train = train_with(optimizer=optimizer, decay=decay, weight_decay=0.1, learning_rate=0.1)
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    torch.nn.init.ones_(module[0].bias)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(train, module.parameters()).step()
    changed = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert changed == ({"0.weight"} | ({"0.bias", "1.weight"} if decay == "all" else set()))


def test_row_32_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("auto").type in {"cpu", "cuda", "mps"}
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(UserError, match=f"train.device: {missing} is not available here"):
        choose_device(missing)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
    ids=["GPU", "processor"],
)
def test_row_32_without_enough_memory_the_message_says_what_to_lower(error: Exception) -> None:
    advice = "train.batch_size: steps of 64 images do not fit; lower it"
    with pytest.raises(UserError, match=advice), enough_memory(advice):
        raise error


def test_large_images_are_tested_in_smaller_batches() -> None:
    sizes = []

    class Counting(torch.nn.Module):
        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images_BCHW))
            return torch.ones(len(images_BCHW), 2) / 2

    for side in (8, 224):
        images_NCHW = torch.zeros(200, 1, side, side, dtype=torch.uint8)
        predict(Counting(), images_NCHW, 150, torch.device("cpu"))
    assert sizes == [150, 50, 83, 83, 34]


def test_row_32_evaluation_names_its_own_batch_size() -> None:
    class Hungry(torch.nn.Module):
        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            message = "DefaultCPUAllocator: can't allocate memory"
            raise RuntimeError(message)

    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(
        UserError, match=r"evaluate\.batch_size: 2 images do not fit on cpu; lower it"
    ):
        predict(Hungry(), images, 2, torch.device("cpu"))


def test_row_32_other_errors_are_none_of_memory() -> None:
    error = RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError, match="shape"), enough_memory("lower it"):
        raise error


def test_batches_made_together_are_those_made_one_by_one() -> None:
    """With real views: each has its own parameters, and its own size."""
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    names = ("autoaugment", "small_crop", "global_imagenet", "affine_strong")
    label_N = torch.arange(30) % 3
    streams = {
        "unlabeled": Stream(torch.arange(30), 4, names),
        "support": Stream(torch.arange(30), 6, ("crop_flip",), label_N, 3),
    }
    pool = Pool(images, torch.eye(30).bool(), lambda name: policy(name, (3, 8, 8)), 1, CPU)
    together = pool.batches(streams, range(3, 20))
    for step, batch in zip(range(3, 20), together, strict=True):
        alone = pool.batch(streams, step)
        for name in streams:
            assert torch.equal(batch.index[name], alone.index[name])
            assert torch.equal(batch.candidates[name], alone.candidates[name])
            assert len(batch.views[name]) == len(streams[name].views)
            for ours, theirs in zip(batch.views[name], alone.views[name], strict=True):
                assert torch.equal(ours, theirs)


def test_a_feed_gives_the_batches_of_any_steps_and_keeps_few() -> None:
    streams = {"train": Stream(torch.arange(20), 5, ("weak", "weak"))}
    pool = make_pool(20)
    feed = Feed(pool, streams)
    for step in (0, 1, 2, 150, 151, 7, 6):
        expected = pool.batch(streams, step)
        assert torch.equal(feed.batch(step).index["train"], expected.index["train"])
        assert torch.equal(feed.batch(step).views["train"][1], expected.views["train"][1])


@pytest.mark.parametrize(
    ("batch_size", "side", "most", "steps"),
    [(5, 4, 1 << 28, 102), (600, 4, 1 << 28, 1), (5, 4, 480, 2), (5, 4, 100, 1)],
)
def test_few_images_or_little_memory_decide_how_many_steps_are_made_together(
    monkeypatch, batch_size: int, side: int, most: int, steps: int
) -> None:
    monkeypatch.setattr(pool_module, "BYTES_AT_ONCE", most)
    images = torch.zeros(700, 1, side, side, dtype=torch.uint8)
    pool = Pool(images, torch.ones(700, 2).bool(), lambda _: PLAIN, 1, CPU)
    streams = {"train": Stream(torch.arange(700), batch_size, ("none", "none"))}
    assert pool.steps_at_once(streams) == steps


@pytest.mark.parametrize(
    ("reproducible", "flags", "told"),
    [
        ("any_cpu", "avx2 avx512_bf16 amx_bf16", "any_cpu keeps to AVX2"),
        ("this_machine", "avx2 avx512f", "neither avx512_bf16 nor AMX"),
        ("this_machine", "avx2 avx512_bf16", None),
        ("this_machine", "avx2 amx_bf16", None),
        ("this_machine", None, None),
    ],
)
def test_bf16_that_a_processor_emulates_is_told(
    monkeypatch, tmp_path: Path, reproducible: str, flags: str | None, told: str | None
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"model name\t: Some CPU\nflags\t\t: {flags}\n")
    monkeypatch.setattr(determinism, "CPUINFO", tmp_path / "cpuinfo")
    said = determinism.emulated_bf16(reproducible)
    assert (said is None) == (told is None)
    assert said is None or told in said
    assert (determinism.processor() == "Some CPU") == (flags is not None)


@pytest.mark.parametrize(("reproducible", "pinned"), [("any_cpu", True), ("this_machine", False)])
def test_the_instruction_sets_are_pinned_for_any_processor(
    monkeypatch, reproducible: str, pinned: bool
) -> None:
    for name in (*determinism.ANY_CPU, "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if pinned:  # torch is here, and has computed
        with pytest.raises(UserError, match="in a process of its own, as with `python -m stages"):
            determinism.pin_processor(reproducible, 1)
        assert not determinism.ANY_CPU.keys() & os.environ.keys()
        monkeypatch.delitem(sys.modules, "torch")
    determinism.pin_processor(reproducible, 1)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    found = {name: os.environ.get(name) for name in determinism.ANY_CPU}
    wanted = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    wanted |= {"MKL_CBWR": "COMPATIBLE"}
    assert found == (wanted if pinned else dict.fromkeys(wanted))
    for name in determinism.ANY_CPU:
        monkeypatch.delenv(name, raising=False)
