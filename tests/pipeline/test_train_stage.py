"""The train stage as a process: what it may see, how it is interrupted, how it goes on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from pipeline_lib.artifacts import publish_text
from pipeline_lib.parquet import publish_table
from pipeline_lib.training.resume import loaded_code
from tests.pipeline.conftest import Project
from tests.signals import as_at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUTS = ("models", "data", "reports")


def slots(project: Project) -> list[Path]:
    return sorted((project.root / ".dvc/tmp/resume").glob("*"))


SAVING = {"epochs": 3, "checkpoint_steps": 1}


def kill_in_a_save(project: Project) -> None:
    """Start training, and SIGKILL it when half of its third state is written."""
    assert project.stage("train", {"half": 4}).returncode == -signal.SIGKILL


def test_training_sees_no_hidden_label_and_no_test_image_list(trainable: Project) -> None:
    present = {p.name for p in (trainable.root / "data").rglob("*.parquet")}
    assert present == {"images.parquet", "train.parquet", "val.parquet"}
    trainable.set(train={"epochs": 1})
    done = trainable.stage("train")
    assert done.returncode == 0, done.stdout
    assert (trainable.root / "models/predictor.safetensors").exists()
    assert slots(trainable) == [], "the resume state of a finished run is removed"


def test_a_split_that_is_older_than_the_images_is_refused(trainable: Project) -> None:
    """By hand, as DVC splits anew: its ids would give images the labels of others."""
    images = trainable.root / "data/images.parquet"
    table = pq.read_table(images)
    publish_table(images, table.take(list(range(len(table)))[::-1]))
    done = trainable.stage("train")
    assert done.returncode == 1
    assert done.stdout.startswith(
        "data/split/train.parquet: of other images than data/images.parquet"
    )


@pytest.mark.parametrize("method", ["cr_dpll", "average"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    trainable: Project, tmp_path_factory: pytest.TempPathFactory, method: str
) -> None:
    trainable.set(method=method, train={**SAVING, "ema_decay": 0.9})
    whole = Project(tmp_path_factory.mktemp("whole"))
    shutil.copytree(trainable.root, whole.root, dirs_exist_ok=True)
    assert whole.stage("train").returncode == 0

    # Where images are kept is no part of what is computed: one goes on from a file to memory.
    trainable.set(train={"memory_budget": 1e-6 if method == "average" else None})
    kill_in_a_save(trainable)
    assert [path.is_dir() for path in slots(trainable)] == [True], "no file of images is left"
    assert not (trainable.root / "models").exists()
    trainable.set(train={"memory_budget": None})
    done = trainable.stage("train")
    assert done.returncode == 0
    assert "resuming after step" in done.stdout
    expected = whole.bytes_of(*OUTPUTS)
    actual = trainable.bytes_of(*OUTPUTS)
    for files in (expected, actual):
        del files["reports/environment.json"]  # how long it took
    assert actual == expected


def test_row_29_the_state_of_another_configuration_is_not_used(trainable: Project) -> None:
    trainable.set(train=SAVING)
    kill_in_a_save(trainable)
    trainable.set(train={"epochs": 1, "learning_rate": 0.01})
    done = trainable.stage("train")
    assert done.returncode == 0
    assert "ignored: other params train.epochs, params train.learning_rate" in done.stdout
    assert "resuming" not in done.stdout


def test_row_29_the_state_of_other_data_or_code_is_not_used(
    trainable: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable.set(train=SAVING)
    kill_in_a_save(trainable)
    (slot,) = slots(trainable)
    code = json.loads((slot / "run.json").read_text())["code"]
    for name in ("methods.cr_dpll", "training.loop", "models.small_cnn", "rng"):
        file = trainable.root / "pipeline_lib" / f"{name.replace('.', '/')}.py"
        assert code[f"pipeline_lib.{name}"] == hashlib.sha256(file.read_bytes()).hexdigest()

    module = SimpleNamespace(__file__=str(trainable.root / "pipeline_lib/rng.py"))
    monkeypatch.setitem(sys.modules, "pipeline_lib.another", module)
    before = loaded_code()
    Path(module.__file__).write_text("# edited\n")
    after = loaded_code()
    assert {name for name in after if after[name] != before[name]} == {"pipeline_lib.another"}

    split = trainable.root / "data/split/train.parquet"
    publish_table(split, pq.read_table(split).slice(1))
    done = trainable.stage("train")
    assert done.returncode == 0
    assert "ignored: other inputs data/split/train.parquet" in done.stdout
    assert "resuming" not in done.stdout


def test_a_damaged_state_is_passed_over(trainable: Project) -> None:
    trainable.set(train=SAVING)
    kill_in_a_save(trainable)
    for state in (trainable.root / ".dvc/tmp/resume").glob("*/step-*.safetensors"):
        content = bytearray(state.read_bytes())
        content[-1] ^= 1
        state.write_bytes(content)
    done = trainable.stage("train", {"half": 4})  # again, and with states that are intact
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.count("resume state ignored") == 2
    again = trainable.stage("train")
    assert again.returncode == 0
    assert "resuming after step" in again.stdout


@contextlib.contextmanager
def training(project: Project, root: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=root or project.root,
        env=project.environment | {"PIPELINE_RESUME_DIR": str(project.root / ".dvc/tmp/resume")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=as_at_a_terminal,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # where a check has failed


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    text = process.stdout.read()
    process.wait()
    return text


def wait_for_a_state(project: Project, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not list((project.root / ".dvc/tmp/resume").glob("*/step-*.safetensors")):
        assert process.poll() is None, said(process)
        assert time.monotonic() < end
        time.sleep(0.05)


def test_row_30_a_second_training_of_one_configuration_waits_for_the_first(
    trainable: Project,
) -> None:
    trainable.set(train=SAVING)
    with training(trainable) as first:
        wait_for_a_state(trainable, first)
    (slot,) = slots(trainable)
    with (slot / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = f"process {first.pid} trains this configuration already: waiting until it ends\n"
        with training(trainable) as stopped:
            assert line(stopped) == told
            stopped.send_signal(signal.SIGINT)
            assert "Traceback" not in said(stopped)
            assert stopped.returncode in {130, -signal.SIGINT}
        with training(trainable) as second:
            assert line(second) == told
            time.sleep(2)
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = said(second)
            assert second.returncode == 0
    assert "resuming after step" in rest
    assert slots(trainable) == []


@pytest.mark.slow
def test_row_30_a_second_training_goes_on_from_the_last_state_of_the_first(
    trainable: Project, tmp_path: Path
) -> None:
    """In another workspace with the same place of states, as experiments of `dvc exp run --temp` are."""
    trainable.set(train={"epochs": 12, "checkpoint_steps": 10})
    copy = tmp_path / "copy"
    shutil.copytree(trainable.root, copy, symlinks=True)
    with training(trainable) as first:
        wait_for_a_state(trainable, first)
        first.send_signal(signal.SIGSTOP)  # until the other waits
        with training(trainable, copy) as second:
            assert f"process {first.pid} trains this configuration already" in line(second)
            first.send_signal(signal.SIGCONT)
            said(first)
            rest = said(second)
            assert (first.returncode, second.returncode) == (0, 0)
    resumed = re.search(r"resuming after step (\d+) of (\d+)", rest)
    assert resumed
    last, steps = map(int, resumed.groups())
    assert steps - 10 <= last < steps
    one, other = (place / "models/predictor.safetensors" for place in (trainable.root, copy))
    assert one.read_bytes() == other.read_bytes()
    assert slots(trainable) == []


def test_row_31_a_loss_that_is_not_finite_stops_with_advice(trainable: Project) -> None:
    trainable.set(train={"learning_rate": 1e30, "schedule": "constant"})
    done = trainable.stage("train")
    assert done.returncode == 1
    assert "is not finite (learning rate 1e+30); lower it (train.learning_rate" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (trainable.root / "models").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"epochs": 1, "batch_size": 5000, "steps_per_epoch": 2},
        {"epochs": 1, "warmup_epochs": 0.5, "schedule": "cosine"},
    ],
    ids=["no epoch", "a batch above the data", "a fraction of an epoch"],
)
def test_rows_33_34_odd_lengths_are_defined(trainable: Project, changes: dict[str, object]) -> None:
    trainable.set(train=changes, methods={"cr_dpll": {**CR_DPLL, "ramp_epochs": 0}})
    done = trainable.stage("train")
    assert done.returncode == 0, done.stdout
    if changes.get("batch_size"):
        assert "1213 images, fewer than the 5000 of a batch, are repeated" in done.stdout


def test_a_table_that_changed_since_its_snapshot_is_told(trainable: Project) -> None:
    """The training is of the labels as they were."""
    (trainable.root / "labels.csv").write_text("file,label\n")
    held = trainable.root / "data/raw/table"
    own = {"name": "image_folder", "path": "photos", "table": "labels.csv"}
    trainable.set(data=own, train={"epochs": 0})
    publish_text(held, "file,label\n")
    assert "warning" not in trainable.stage("train").stdout
    publish_text(held, "file,label\none.png,cat\n")
    done = trainable.stage("train")
    assert done.returncode == 0, done.stdout
    assert (
        "warning: labels.csv: changed since its snapshot was taken; to train on it, run"
        in done.stdout
    )


def test_a_training_that_is_or_gets_too_short_says_so(trainable: Project) -> None:
    """The second one ends early, which nobody knew when it started."""
    phases = trainable.root / "reports/train/phases.json"
    trainable.set(train={"epochs": 1, "ema_decay": 0.999})
    said = trainable.stage("train").stdout
    (told,) = (why for why in json.loads(phases.read_text())["unfinished"] if "ema" in why)
    assert f"warning: {told}" in said
    assert told.startswith("train.ema_decay 0.999: after 18 steps, 98 % of the averaged weights")
    trainable.set(train={"epochs": 400, "patience": 1, "select": "covering_rate"})
    said = trainable.stage("train").stdout
    assert "ema_decay" not in said
    (told,) = (why for why in json.loads(phases.read_text())["unfinished"] if "ema" in why)
    assert told.startswith("train.ema_decay 0.999: after ")


def test_params_that_change_during_training_are_not_recorded_as_trained_with(
    trainable: Project,
) -> None:
    """DVC notes params.yaml as it is when the stage ends."""
    trainable.set(train=SAVING)
    before = (trainable.root / "params.yaml").read_text()
    with training(trainable) as process:
        wait_for_a_state(trainable, process)
        trainable.set(train={"learning_rate": 0.123}, report={"grid_images": 8})
        text = said(process)
    assert process.returncode == 1
    assert text.endswith("or run dvc repro for the new value\n")
    assert "params.yaml: train.learning_rate: changed from " in text
    assert not (trainable.root / "models").exists()
    (trainable.root / "params.yaml").write_text(before)
    trainable.set(report={"grid_images": 8})
    with training(trainable) as process:
        text = said(process)
    assert process.returncode == 0, text
    assert "resuming after step" in text


def test_code_that_is_edited_during_training_is_not_recorded_as_what_ran(
    trainable: Project,
) -> None:
    trainable.set(train=SAVING)
    code = trainable.root / "pipeline_lib/methods/cr_dpll.py"
    before = code.read_text()
    with training(trainable) as process:
        wait_for_a_state(trainable, process)
        code.write_text(f"{before}\n# another thought\n")
        text = said(process)
    assert process.returncode == 1
    assert "\npipeline_lib.methods.cr_dpll: edited during training, and DVC would record" in text
    assert not (trainable.root / "models").exists()
    code.write_text(before)
    with training(trainable) as process:
        text = said(process)
    assert process.returncode == 0, text
    assert "resuming after step" in text


CR_DPLL = {"lambda_max": 1.0, "ramp_start": "zero", "bn": "per_view"}


def test_a_method_that_cannot_use_the_labels_says_so(trainable: Project) -> None:
    trainable.set(method="supervised")
    done = trainable.stage("train")
    assert done.returncode == 1
    assert "supervised learns from labeled images, and none of the 1213" in done.stdout
