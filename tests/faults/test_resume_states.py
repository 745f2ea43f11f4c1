"""Saved states of trainings: listed, deleted when nobody uses them, and only then."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline_lib.artifacts import publish_text
from pipeline_lib.doctor import resume_states
from pipeline_lib.doctor.resume_states import states
from pipeline_lib.errors import UserError
from pipeline_lib.training import resume
from pipeline_lib.training.resume import LOCK, Slot, packed, unpacked, user_of
from stages.app import app

ROOT = Path(__file__).parents[2]
SPLIT = Path("data/split/train.parquet")


def identity(seed: int, digest: str = "0") -> dict[str, dict[str, object]]:
    params = {"method.": "paws", "seed.": seed, "model.name": "lenet"}
    return {"params": params, "inputs": {str(SPLIT): digest}, "code": {}, "environment": {}}


def saved(root: Path, seed: int, step: int = 7, digest: str = "0") -> Slot:
    slot = Slot(root, identity(seed, digest))
    with slot.held():
        for number in (step - 1, step):
            slot.save(number, {"w": torch.zeros(1000)}, {})
    return slot


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("PIPELINE_RESUME_DIR", str(tmp_path / "states"))
    return tmp_path / "states"


def run(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["resume", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def age(slot: Slot, days: float) -> None:
    for path in slot.folder.iterdir():
        os.utime(path, (time.time() - days * resume_states.DAY,) * 2)


def test_who_waits_for_a_training_that_ends_locks_others_out(root: Path, monkeypatch) -> None:
    """The one that ends removes the folder, and with it the file that the other has opened to lock it."""
    monkeypatch.setattr(resume, "TRIES", 500)
    tried = threading.Event()
    asked = fcntl.flock

    def flock(file, how: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            tried.set()
        asked(file, how)

    monkeypatch.setattr(resume.fcntl, "flock", flock)
    ending, waiting, third = (Slot(root, identity(seed=1)) for _ in range(3))
    inside, done = threading.Event(), threading.Event()

    def wait() -> None:
        with waiting.held():
            inside.set()
            done.wait(10)

    with ending.held():
        thread = threading.Thread(target=wait)
        thread.start()
        assert tried.wait(10)
        ending.remove()
    try:
        assert inside.wait(5)
        assert user_of(waiting.folder) == str(os.getpid())
        monkeypatch.setattr(resume, "TRIES", 2)
        with pytest.raises(UserError, match="trains this configuration already"), third.held():
            pass
    finally:
        done.set()
        thread.join()


def test_a_file_in_place_of_the_folder_is_told(root: Path) -> None:
    slot = Slot(root, identity(seed=1))
    root.mkdir()
    slot.folder.write_text("")
    with pytest.raises(UserError, match="File exists; set PIPELINE_RESUME_DIR"), slot.held():
        pass


def test_nothing_is_listed_where_nothing_is(root: Path) -> None:
    assert run("list") == [f"no resume state in {root}"]
    assert run("clean") == ["0 resume states removed, 0 bytes freed"]


def test_the_list_says_what_was_trained_how_far_and_who_uses_it(root: Path) -> None:
    publish_text(SPLIT, "rows")
    here = SPLIT.with_name("train.parquet.sha256").read_text().split()[0]
    old, new = saved(root, 1), saved(root, 2, step=12, digest=here)
    age(old, 3)
    with new.held():
        head, first, second = [line.split("\t") for line in run("list")]
    assert head == ["state", "training", "step", "days ago", "size", "in use"]
    assert first[:4] == [new.folder.name, "paws, lenet, seed 2, this split", "12", "0.0"]
    assert first[5] == f"process {os.getpid()}"
    assert second[:4] == [old.folder.name, "paws, lenet, seed 1, another split", "7", "3.0"]
    assert second[5] == "no"
    size = sum(path.stat().st_size for path in old.folder.iterdir())
    assert [state.size for state in states(root)][1] == size > 8000


def test_a_state_without_a_description_or_a_step_is_listed_too(root: Path) -> None:
    slot = saved(root, 1)
    for path in slot.folder.iterdir():
        if path.name != "lock":
            path.unlink()
    assert run("list")[1].split("\t")[1:3] == ["unknown", "-"]


def test_cleaning_spares_what_is_in_use_or_too_young(root: Path) -> None:
    used, young, old = saved(root, 1), saved(root, 2), saved(root, 3)
    age(used, 9)
    age(old, 9)
    with used.held():
        lines = run("clean", "--older-than", "7.5")
    assert len(lines) == 4
    assert f"kept {young.folder}: 0.0 days old" in lines
    assert f"kept {used.folder}: a training uses it" in lines
    assert any(line.startswith(f"removed {old.folder}: paws, lenet, seed 3") for line in lines)
    assert lines[-1].startswith("1 resume state removed, ")
    assert not old.folder.exists()
    assert used.load(print) is not None
    freed = sum(state.size for state in states(root))
    assert run("clean")[-1] == f"2 resume states removed, {freed} bytes freed"
    assert states(root) == []


def test_a_damaged_state_is_found_and_the_one_before_it_serves(root: Path) -> None:
    slot = saved(root, 1)
    newest = slot.folder / "step-000000000007.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with slot.held():
        assert resume_states.check(root).findings == (), "its training will see to it"
    (finding,) = resume_states.check(root).findings
    assert (finding.where, finding.what) == (str(newest), "the saved state is damaged")
    assert finding.repair is not None
    finding.repair()
    assert resume_states.check(root).findings == ()
    loaded = slot.load(print)
    assert loaded is not None
    assert loaded[1]["step"] == 6


def test_a_training_that_was_killed_is_told_until_it_ends_otherwise(root: Path) -> None:
    slot = Slot(root, identity(1))
    if not (child := os.fork()):
        with slot.held():
            slot.save(3, {"w": torch.zeros(1)}, {})
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (finding,) = resume_states.check(root).findings
    assert not finding.problem
    assert str(finding).startswith(
        f"{slot.folder}: a training (paws, lenet, seed 1, another split) did not end by itself, but was killed "
        "after step 3 was saved; `dvc repro` goes on from what is saved (`python -m stages.app resume clean` "
    )
    assert "`exited with -9`, memory ran out: first lower train.memory_budget" in finding.todo

    def interrupted() -> None:
        with slot.held():
            assert resume_states.check(root).findings == (), "it goes on"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert resume_states.check(root).findings == (), "it was asked to end"
    (slot.folder / LOCK).write_text(str(child))
    assert resume_states.check(root).findings == (), "earlier versions left it so at a proper end"
    assert slot.load(print) is not None


def test_after_damaged_states_new_ones_are_kept(root: Path) -> None:
    slot = saved(root, 1, step=100)
    for path in slot.folder.glob("step-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    said: list[str] = []
    assert slot.load(said.append) is None
    assert len(said) == 2
    assert all(line.startswith("resume state ignored: ") for line in said)
    assert "dvc" not in " ".join(said).lower().replace(str(root), "")
    kept = []
    for step in (10, 20, 30):
        slot.save(step, {"w": torch.zeros(1)}, {})
        kept.append(sorted(int(path.stem[5:]) for path in slot.folder.glob("step-*.safetensors")))
        loaded = slot.load(print)
        assert loaded is not None
        assert loaded[1]["step"] == step
    assert kept == [[10], [10, 20], [20, 30]]
    assert len(list(slot.folder.glob("*.sha256"))) == 3, "of both, and of the description"


def test_looking_at_states_goes_on_while_trainings_begin_and_end(root: Path) -> None:
    stays = saved(root, 1)
    over = threading.Event()

    def train_and_train() -> None:
        while not over.is_set():
            for seed in range(2, 6):
                Slot(root, identity(seed)).folder.mkdir(parents=True, exist_ok=True)
                for name in ("lock", "run.json", "step-000000000001.safetensors"):
                    (Slot(root, identity(seed)).folder / name).touch()
            for seed in range(2, 6):
                Slot(root, identity(seed)).remove()

    trainings = threading.Thread(target=train_and_train)
    trainings.start()
    try:
        for _ in range(100):
            assert stays.folder in {state.folder for state in states(root)}
            resume_states.check(root)
            stays.strangers()
    finally:
        over.set()
        trainings.join()


def test_a_state_that_is_gone_by_itself_can_be_deleted(root: Path) -> None:
    slot = saved(root, 1)
    (state,) = states(root)
    slot.remove()
    assert resume_states.remove(state)


def test_of_other_trainings_one_is_named_the_others_counted_and_neighbours_left_out(
    root: Path,
) -> None:
    ours = Slot(root, identity(1) | {"code": {"a": "1"}})
    assert ours.strangers() == []
    old, last, running = (saved(root, seed) for seed in (2, 3, 4))
    age(old, 2)
    with running.held():
        (line,) = ours.strangers()
        assert line == (
            f"resume state {last.folder} ignored: other params seed., code a; 1 more: "
            "`python -m stages.app resume list`"
        )
        old.remove()
        assert ours.strangers() == [line.partition(";")[0]]
        last.remove()
        assert ours.strangers() == []


def test_a_training_begins_though_its_lock_is_being_looked_at(root: Path) -> None:
    slot = saved(root, 1)
    lock = (slot.folder / LOCK).open()
    fcntl.flock(lock, fcntl.LOCK_SH)
    assert user_of(slot.folder) is None
    threading.Timer(0.03, lock.close).start()
    with slot.held():
        assert user_of(slot.folder) == str(os.getpid())


def test_other_things_in_the_folder_of_states_stay(root: Path) -> None:
    saved(root, 1)
    other = root / "photos"
    other.mkdir()
    run("clean")
    assert list(root.iterdir()) == [other]


@pytest.mark.parametrize("name", ["run.json", "lock", "step-1.safetensors"])
def test_a_folder_of_the_users_beside_the_states_stays(root: Path, name: str) -> None:
    """PIPELINE_RESUME_DIR may hold other things, some with files that are called as ours."""
    own = root / "my-experiment"
    (own / "results").mkdir(parents=True)
    (own / name).write_text("{}")
    run("clean")
    assert (own / name).exists()
    assert (own / "results").exists()


def test_a_state_that_is_sent_is_the_one_that_is_read(root: Path) -> None:
    """Its order too: sums are restored by it."""
    tensors = {"meter.loss": torch.ones((), dtype=torch.float64), "meter.#count": torch.tensor(3)}
    tensors |= {"method.w": torch.zeros(2, 3), "meter.a": torch.zeros(())}
    slot = Slot(root, identity(1))
    with slot.held():
        slot.save(5, tensors, {"rate": 0.1})
    read = slot.load(print)
    assert read is not None
    sent = unpacked(packed(tensors, {"step": 5, "rate": 0.1}))
    assert sent[1] == read[1]
    assert list(sent[0]) == list(read[0]) == sorted(tensors)
    assert all(torch.equal(sent[0][name], tensors[name]) for name in tensors)


WAITING = """
import time
from pipeline_lib.training.interruption import noticed
with noticed() as interruption:
    print("ready", flush=True)
    for _ in range(3000):
        time.sleep(0.01)
        if interruption.by:
            print(interruption.by.name, flush=True)
            time.sleep(30)
"""


def test_a_signal_that_comes_twice_at_once_is_one_and_a_later_one_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        time.sleep(1.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
