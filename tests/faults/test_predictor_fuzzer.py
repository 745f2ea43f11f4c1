"""A model from a stranger: broken and made up files of a predictor, whose sidecars fit all the same.

What is loaded is what the files say, bit by bit; everything else is refused in a line, soon, and in
little memory.
"""

from __future__ import annotations

import importlib
import json
import shutil
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.description import read_description
from pipeline_lib.models.predictor import (
    load_predictor,
    load_snapshot,
)
from tests.fuzzing import broken, check_message, counts, in_little_memory, reworded, seal, soon
from tests.toy_predictors import FILES, save_each

IMAGES = torch.arange(4 * 64).remainder(256).byte().view(4, 1, 8, 8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    importlib.import_module("torchvision.models")  # which takes seconds, the first time
    return save_each(tmp_path_factory.mktemp("whole"))


def with_header(content: bytes, draw: Random) -> bytes:
    """Safetensors with another header, of the right or of a wrong length."""
    length = struct.unpack("<Q", content[:8])[0]
    header = reworded(content[8 : 8 + length].decode(), draw).encode("utf-8", "replace")
    said = draw.choice([len(header)] * 6 + [length, 1 << 40, (1 << 64) - 1, 0])
    return struct.pack("<Q", said) + header + content[8 + length :]


def tensors(content: bytes) -> dict[str, np.ndarray]:
    """What safetensors hold, read by hand."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kinds = {"F32": np.float32, "I64": np.int64}
    return {
        name: np.frombuffer(data[slice(*of["data_offsets"])], kinds[of["dtype"]]).reshape(
            of["shape"]
        )
        for name, of in header.items()
        if name != "__metadata__"
    }


def mutate(folder: Path, draw: Random) -> None:
    """Break one of the files, and let its sidecar fit."""
    name = draw.choice(FILES)
    path = folder / name
    content = path.read_bytes()
    if name == "predictor.json" and draw.random() < 0.8:
        content = reworded(content.decode(), draw).encode("utf-8", "replace")
    elif name != "predictor.json" and draw.random() < 0.5:
        content = with_header(content, draw)
    else:
        content = broken(content, draw)
    path.write_bytes(content)
    seal(path)


def load_and_compare(folder: Path) -> None:
    """Load what is in a folder, and see that it is what the files say; may refuse."""
    description = read_description(folder)
    names = description["snapshots"]
    loaded = [(load_predictor(folder), folder / FILES[1])]
    loaded += [(load_snapshot(folder, name), folder / FILES[2]) for name in names]
    for predictor, path in loaded:
        said = tensors(path.read_bytes())
        state = predictor.state_dict()
        assert state.keys() == said.keys()
        for name, tensor in state.items():
            assert tensor.numpy().tobytes() == said[name].tobytes()
        try:
            probabilities_NK = predict(predictor, IMAGES, 4, CPU)
        except RuntimeError:  # made for other images than these
            network = description["architecture"]
            assert (network["channels"], network["image_height"], network["image_width"]) != (
                *(1, 8, 8),
            )
        else:
            assert probabilities_NK.shape == (4, len(description["classes"]))


def test_row_22_what_a_file_says_cannot_move_the_terminal(
    whole: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(whole[0], folder)
    path = folder / FILES[0]
    content = json.loads(path.read_text())
    content["predictor"] = {"kind": "\x1b[2J\n"}
    path.write_text(json.dumps(content))
    seal(path)
    with pytest.raises(UserError, match="does not match any of the expected tags") as caught:
        read_description(folder)
    check_message(caught.value)


def test_row_22_a_predictor_of_no_epoch_is_none_of_ours(whole: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(whole[0], folder)
    path = folder / FILES[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"selected_epoch": None}))
    seal(path)
    with pytest.raises(UserError, match="'selected_epoch': Input should be a valid integer"):
        read_description(folder)


@counts(quick=400, full=5000)
def test_row_22_a_strangers_predictor_is_what_it_says_or_refused(
    whole: list[Path], tmp_path: Path, capsys, cases: int
) -> None:
    draw, refused = Random(22), 0
    for folder in whole:
        load_and_compare(folder)
    with in_little_memory():
        for case in range(cases):
            folder = tmp_path / "models"
            shutil.copytree(whole[case % len(whole)], folder)
            mutate(folder, draw)
            try:
                with soon():
                    load_and_compare(folder)
            except UserError as error:
                check_message(error)
                refused += 1
            shutil.rmtree(folder)
    with capsys.disabled():
        print(f"predictors: {refused} of {cases} refused")
    assert cases // 2 < refused < cases


@counts(quick=200, full=5000)
def test_row_22_a_changed_file_is_noticed_by_its_sidecar(
    whole: list[Path], tmp_path: Path, cases: int
) -> None:
    draw = Random(23)
    folder = tmp_path / "models"
    shutil.copytree(whole[0], folder)
    for _ in range(cases):
        path = folder / draw.choice(FILES)
        before = path.read_bytes()
        after = broken(before, draw)
        path.write_bytes(after)
        if after != before:
            with soon(), pytest.raises(UserError, match=f"{path.name}: damaged"):
                load_and_compare(folder)
        path.write_bytes(before)
