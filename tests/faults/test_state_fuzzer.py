"""Broken resume states, descriptions of other runs, and sidecars: passed over or refused, never mixed in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import pytest
import torch

from pipeline_lib.artifacts import publish_bytes, read_json, verify
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import publish_table, read_table
from pipeline_lib.training.resume import Slot
from tests import toy_training
from tests.fuzzing import broken, check_message, counts, in_little_memory, reworded, seal, soon
from tests.label_tables import labels

IDENTITY = {"code": {"a": "1"}, "params": {"seed": 1}, "inputs": {"x": "2"}}
NOTES = {"step": 0, "phase": 0, "rate": 0.1, "record": {"rows": [{"epoch": 1}]}}


@counts(quick=300, full=5000)
def test_row_29_a_broken_state_is_passed_over(tmp_path: Path, cases: int) -> None:
    slot = Slot(tmp_path, IDENTITY)
    states = {}
    for step in (1, 2):
        states[step] = {"method.w": torch.randn(3, 2), "ema.n": torch.tensor([step])}
        slot.save(step, states[step], NOTES | {"step": step})
    paths = sorted(slot.folder.glob("step-*.safetensors"))
    whole = {path: path.read_bytes() for path in slot.folder.iterdir()}
    draw = Random(29)
    for _ in range(cases):
        path = draw.choice(paths)
        sealed = draw.random() < 0.5
        path.write_bytes(broken(whole[path], draw))
        if sealed:
            seal(path)
        said: list[str] = []
        with soon():
            found = slot.load(said.append)
        assert all(len(line.splitlines()) == 1 and len(line) < 1000 for line in said)
        if not sealed:  # an accident: the state is one that was saved, or none is left
            tensors, notes = found
            assert all(torch.equal(t, states[notes["step"]][n]) for n, t in tensors.items())
        for name, content in whole.items():
            name.write_bytes(content)


@counts(quick=300, full=5000)
def test_row_29_a_broken_description_of_another_run_is_of_another_run(
    tmp_path: Path, cases: int
) -> None:
    slot, other = Slot(tmp_path, IDENTITY), Slot(tmp_path, IDENTITY | {"code": {"b": "3"}})
    other.save(1, {"w": torch.zeros(1)}, {})
    description = other.folder / "run.json"
    with other.held():
        whole = description.read_text()
    draw = Random(30)
    for case in range(cases):
        changed = reworded(whole, draw) if case % 2 else None
        content = changed.encode("utf-8", "replace") if changed else broken(whole.encode(), draw)
        description.write_bytes(content)
        with soon():
            lines = slot.strangers()
        assert all(f"{other.folder} ignored: other " in line for line in lines)
        assert len(lines) == 1


def test_row_29_a_state_that_somebody_put_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy_training.write_inputs()
    foreign = ({"method.w": torch.zeros(3)}, {"phase": 0, "before": 0, "clock": 1})
    monkeypatch.setattr(Slot, "load", lambda *_: foreign)
    with pytest.raises(UserError, match=r"no state of this training .*; delete the folder"):
        toy_training.outcome(toy_training.params("cr_dpll"))
    assert not Path("models").exists()


@counts(quick=300, full=5000)
def test_row_21_a_broken_sidecar_fits_nothing(tmp_path: Path, cases: int) -> None:
    path = tmp_path / "table.bin"
    publish_bytes(path, b"content")
    sidecar = path.with_name("table.bin.sha256")
    whole, draw = sidecar.read_bytes(), Random(21)
    digest = hashlib.sha256(b"content").hexdigest().encode()
    for _ in range(cases):
        content = broken(whole, draw)
        sidecar.write_bytes(content)
        try:
            with soon():
                verify(path)
        except UserError as error:
            check_message(error)
            assert not content.startswith(digest)
        else:
            assert content.startswith(digest)


@counts(quick=300, full=5000)
def test_row_21_a_broken_table_whose_sidecar_fits_is_a_table_or_refused(
    tmp_path: Path, cases: int
) -> None:
    path = tmp_path / "labels.parquet"
    publish_table(path, labels([20, 20, 20]))
    whole, draw = path.read_bytes(), Random(31)
    with in_little_memory():
        for _ in range(cases):
            path.write_bytes(broken(whole, draw))
            seal(path)
            try:
                with soon():
                    read_table(path).validate()
            except UserError as error:
                check_message(error)


@counts(quick=300, full=5000)
def test_row_21_broken_json_whose_sidecar_fits_is_an_object_or_refused(
    tmp_path: Path, cases: int
) -> None:
    path = tmp_path / "classes.json"
    whole = '{"classes": ["ant", "bee"], "height": 8, "policy": "digits", "more": {"x": null}}'
    draw = Random(32)
    for case in range(cases):
        text = reworded(whole, draw)
        content = text.encode("utf-8", "replace") if case % 2 else broken(whole.encode(), draw)
        path.write_bytes(content)
        seal(path)
        try:
            with soon():
                assert isinstance(read_json(path), dict)
        except UserError as error:
            check_message(error)
