"""`predict` on raw files of every kind: what evaluate found, and what becomes of files that are no images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline_lib.apply import network
from pipeline_lib.apply.model import Loaded, Model, described
from pipeline_lib.apply.network import Precision, load_network
from pipeline_lib.apply.predict import Settings, predict
from pipeline_lib.apply.sources import open_images
from pipeline_lib.apply.table import PREDICTIONS, likeliest, predictions
from pipeline_lib.artifacts import publish_bytes, publish_json
from pipeline_lib.datasets import decoding
from pipeline_lib.datasets.decoding import Target
from pipeline_lib.errors import UserError
from tests.as_user import as_anybody
from tests.photos import CLASSES, EACH, beside_the_clone
from tests.pipeline.conftest import Project

if TYPE_CHECKING:
    from pipeline_lib.apply.model import Answer

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
ALL = Settings(top_k=100, abstain_below=0.0, batch_size=None)
STAGES = ("configure", "download", "ingest", "split", "train", "evaluate")


def tell_shades(images_BHWC: np.ndarray) -> np.ndarray:
    """Probabilities that tell the mean of a gray image: 0 is the first class, 255 the second."""
    share_B = images_BHWC.mean(axis=(1, 2, 3), dtype=np.float32) / 255
    return np.stack([1 - share_B, share_B], axis=1)


def shades(
    side: int | None = 4, shape: tuple[int, int, int] = (4, 4, 1), answer: Answer = tell_shades
) -> Model:
    target = Target("gray", side, "stretch", "pixels")
    return Model(["dark", "light"], shape, target, lambda: Loaded(answer, 128, at_once=2))


def of(models: Path, precision: Precision = "fp32") -> Model:
    return described(models, lambda shape: load_network(models, shape, CPU, precision))


def shade(path: Path, value: int, size: tuple[int, int] = (9, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def applied(*paths: Path, model: Model | None = None, settings: Settings = ALL) -> pl.DataFrame:
    output = paths[0].parent / "predictions.parquet"
    with open_images(paths, output.parent) as images:
        counts = predict(images, model or shades(), settings, output)
        assert counts.images == images.count
    assert pq.read_schema(output) == PREDICTIONS
    assert not output.with_name(f"{output.name}.sha256").exists()
    return pl.read_parquet(output)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A workspace after evaluate, trained for a step on photos of mixed sizes beside it."""
    root = tmp_path_factory.mktemp("trained") / "clone"
    root.mkdir()
    beside_the_clone(root.parent)
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project = Project(root)
    project.environment |= {"PYTHONPATH": str(ROOT)}
    project.set(
        method="oracle",
        data={"name": "image_folder", "path": "../photos", "image_size": 24, "resize": "pad"},
        train={"epochs": 1, "steps_per_epoch": 3, "batch_size": 16},
    )
    for stage in STAGES:
        done = project.stage(stage)
        assert done.returncode == 0, done.stdout
    return project


def test_images_that_may_be_of_no_use_are_counted_as_ingest_counts_them(tmp_path: Path, capsys):
    paths = [shade(tmp_path / f"{n}.png", 15 * n, (2 + 60 * (n == 3), 2)) for n in range(4)]
    applied(*paths, model=shades(side=16, shape=(16, 16, 1)))
    assert capsys.readouterr().out == (
        f"images that may be of no use: 1 longer than 20:1 ({paths[3]}), 3 enlarged over 4 times ({paths[0]}), "
        f"2 nearly black (none of 255 above 15), as 12 bits stored in 16 are ({paths[0]})\n"
    )


def test_raw_files_get_the_probabilities_that_evaluate_found(trained: Project) -> None:
    photos = trained.root.parent / "photos"
    found = applied(photos, model=of(trained.root / "models"))
    assert len(found) == len(CLASSES) * EACH
    assert found["source"].is_sorted()
    named = found.with_columns(pl.col("source").str.strip_prefix(f"{photos}/"))
    labels = pl.read_parquet(trained.root / "data/labels.parquet").select("id", "source")
    tested = pl.read_parquet(trained.root / "reports/evaluate/predictions.parquet")
    joined = tested.drop("label").join(labels, on="id").join(named, on="source")
    assert len(joined) == len(tested) == EACH
    of_class = [
        [row["top_probabilities"][row["top_classes"].index(name)] for name in CLASSES]
        for row in joined.iter_rows(named=True)
    ]
    np.testing.assert_allclose(of_class, joined["probabilities"].to_list(), rtol=0, atol=1e-6)
    expected = [CLASSES[number] for number in joined["predicted"]]
    assert joined["label"].to_list() == joined["top_classes"].list.first().to_list() == expected


def test_bf16_moves_probabilities_a_little(trained: Project) -> None:
    exact, rough = (
        applied(
            trained.root.parent / "photos",
            model=of(trained.root / "models", precision),
        )["probability"]
        for precision in get_args(Precision)
    )
    assert 0 < (exact - rough).abs().max() < 0.01


def test_the_images_that_ingest_stored_get_the_same(trained: Project) -> None:
    model, folder = of(trained.root / "models"), trained.root
    tested = pl.read_parquet(folder / "reports/evaluate/predictions.parquet")
    with open_images([folder / "data/images.parquet"], folder) as images:
        predict(images, model, ALL, folder / "stored.parquet")
    found = pl.read_parquet(folder / "stored.parquet")
    assert found["source"][7].endswith("images.parquet:7")
    best = tested["probabilities"].list.max()
    np.testing.assert_allclose(found["probability"].gather(tested["id"]), best, atol=1e-6)


def test_the_stored_resize_rule_is_used(trained: Project, tmp_path: Path) -> None:
    model = of(trained.root / "models")
    assert model.target == Target("rgb", 24, "pad", "pixels")
    path = shade(tmp_path / "wide.png", 200, (60, 6))
    other = replace(model, target=Target("rgb", 24, "stretch", "pixels"))
    padded, stretched = (applied(path, model=one)["probability"][0] for one in (model, other))
    assert padded != stretched


def test_folders_files_archives_and_tables_may_be_mixed(tmp_path: Path) -> None:
    shade(tmp_path / "folder/b/2.png", 0)
    shade(tmp_path / "folder/a/deep/1.bmp", 255)
    (tmp_path / "folder/notes.txt").write_text("no image")
    shade(tmp_path / "folder/.hidden/3.png", 0)
    file = shade(tmp_path / "one file.png", 51)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("x/1.png", png(102))
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(file, "y/1.png")
    images = pa.array([{"bytes": png(153), "path": "1.png"}, {"bytes": None, "path": None}])
    table = pa.table({"picture": images, "number": [1.5, 2.5]})
    pq.write_table(table, tmp_path / "t.parquet")
    names = ("folder", "one file.png", "z.zip", "t.tar.gz", "t.parquet")
    found = applied(*(tmp_path / name for name in names))
    assert [Path(source).relative_to(tmp_path).as_posix() for source in found["source"]] == [
        *("folder/a/deep/1.bmp", "folder/b/2.png", "one file.png", "z.zip/x/1.png"),
        *("t.tar.gz/y/1.png", "t.parquet:0", "t.parquet:1"),
    ]
    assert found["label"].to_list() == ["light", "dark", "dark", "dark", "dark", "light", None]
    light = [row[classes.index("light")] for row, classes in complete(found)]
    np.testing.assert_allclose(light, [1, 0, 0.2, 0.4, 0.2, 0.6], atol=1e-6)
    assert found["problem"].to_list() == [None] * 6 + ["empty file (0 bytes)"]


def complete(found: pl.DataFrame) -> list[tuple[list[float], list[str]]]:
    rows = found.drop_nulls("top_classes")
    return list(
        zip(rows["top_probabilities"].to_list(), rows["top_classes"].to_list(), strict=True)
    )


def test_what_cannot_be_read_is_listed_and_the_rest_predicted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shade(folder / "good.png", 255)
    (folder / "web.jpg").write_text("<html>not found</html>")
    (folder / "empty.jpg").touch()
    (folder / "cut.png").write_bytes(png(3)[:-20])
    (folder / "link.png").symlink_to(shade(tmp_path / "outside.png", 0))
    (folder / "within.png").symlink_to("good.png")
    (folder / "nothing.png").symlink_to(folder / "missing.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    os.mkfifo(folder / "pipe.png")
    bad = os.fsencode(folder) + b"/\xff.png"
    Path(os.fsdecode(bad)).write_bytes(png(0))
    found = applied(folder)
    problems = {Path(s).name: p for s, p in zip(found["source"], found["problem"], strict=True)}
    assert problems.pop("cut.png").startswith("damaged image")
    assert problems == {
        "good.png": None,
        "within.png": None,
        "\N{REPLACEMENT CHARACTER}.png": None,
        "web.jpg": "a web page, not an image; download it again",
        "empty.jpg": "empty file (0 bytes)",
        "link.png": "a link out of the folder; put the file itself there",
        "nothing.png": "gone, or a pipe, a device, a folder or a link to nothing",
        "itself.png": "gone, or a pipe, a device, a folder or a link to nothing",
        "pipe.png": "gone, or a pipe, a device, a folder or a link to nothing",
    }
    unreadable = found.filter(pl.col("problem").is_not_null())
    nothing = unreadable.drop("source", "problem")
    assert nothing.null_count().sum_horizontal()[0] == nothing.width * len(unreadable)
    assert found.filter(pl.col("problem").is_null())["label"].null_count() == 0


def test_a_damaged_member_of_an_archive_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", png(0))
        archive.writestr("2.png", png(255))
    content = path.read_bytes()
    path.write_bytes(content.replace(png(0), png(0)[:-9] + b"?" + png(0)[-8:]))
    found = applied(path)
    assert found["label"].to_list() == [None, "light"]
    assert found["problem"][0].startswith("cannot be read (Bad CRC-32")


def test_a_network_of_oblong_images_takes_no_others(tmp_path: Path) -> None:
    shade(tmp_path / "folder/1.png", 255, (6, 4))
    shade(tmp_path / "folder/2.png", 0, (4, 6))
    shade(tmp_path / "folder/3.png", 0, (1200, 4))
    shade(tmp_path / "folder/4.png", 0, (6, 4))
    found = applied(tmp_path / "folder", model=shades(None, (4, 6, 1)))
    assert found["label"].to_list() == ["light", None, None, "dark"]
    assert found["problem"][1] == "4x6 pixels, the network takes 6x4 only"


@pytest.mark.parametrize("batch_size", [1, 3, 5, None])
def test_any_batch_size_gives_the_same_rows(batch_size: int | None, tmp_path: Path) -> None:
    for number in range(7):
        shade(tmp_path / f"folder/{number}.png", 30 * number)
    (tmp_path / "folder/3.png").write_text("")
    found = applied(tmp_path / "folder", settings=Settings(1, 0.6, batch_size))
    assert found["label"].to_list() == ["dark"] * 3 + [None] * 2 + [None, "light"]
    assert found["top_classes"].list.len().to_list() == [1] * 3 + [None] + [1] * 3
    assert found["probability"].null_count() == found["problem"].len() - 6 == 1


def test_any_number_of_cores_gives_the_same_bytes(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with processes that decode, which one core does without."""
    photos, found = trained.root / "../photos", []
    monkeypatch.setattr(decoding, "FEW_CHUNKS", 2)
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 32)
    for cores in (1, 3):
        monkeypatch.setattr(network, "cores", lambda cores=cores: cores)
        monkeypatch.setattr(decoding, "cores", lambda cores=cores: cores)
        with open_images([photos], tmp_path) as images:
            model = of(trained.root / "models")
            assert model.load().at_once == cores
            predict(images, model, Settings(2, 0.0, 16), tmp_path / "out.parquet")
        found.append((tmp_path / "out.parquet").read_bytes())
    assert found[0] == found[1]


def test_an_uncertain_image_gets_no_label_but_its_probabilities() -> None:
    top = likeliest(np.array([[0.25, 0.5, 0.25], [0.3, 0.3, 0.4]], np.float32), 2)
    found = predictions(["a", "b", "c"], [None, "broken", None], top, ["x", "y", "z"], 0.5)
    assert found["label"].to_pylist() == ["y", None, None]
    assert found["top_classes"].to_pylist() == [["y", "x"], None, ["z", "x"]]
    assert found["probability"].to_pylist() == [0.5, None, pytest.approx(0.4)]


def test_answers_that_are_no_numbers_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = shade(tmp_path / "1.png", 0)
    broken = shades(answer=lambda images: np.full((len(images), 2), np.nan, np.float32))
    with pytest.raises(UserError, match="answers 1 of 1 images with NaN"):
        applied(path, model=broken)
    assert [file.name for file in tmp_path.iterdir()] == ["1.png"]


@pytest.mark.parametrize("part", ["predictor.json", "predictor.safetensors"])
def test_a_model_that_is_replaced_meanwhile_does_not_answer_with_the_names_of_the_other(
    trained: Project, tmp_path: Path, part: str
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained.root / "models", models)
    model = described(models, lambda _: Loaded(tell_shades, 128, at_once=2))
    model.load()
    if part == "predictor.json":
        publish_json(models / part, json.loads((models / part).read_text()) | {"seed": 8})
    else:
        publish_bytes(models / part, b"of another training")
    with pytest.raises(UserError, match="models: was replaced by another model meanwhile; run"):
        model.load()


def command(
    folder: Path, *arguments: str, stdout: int | IO[str] = subprocess.PIPE, anybody: bool = False
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "stages.app", "predict", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=as_anybody if anybody else None,
    )
    return done.returncode, done.stderr


def test_what_may_not_be_read_is_a_row(trained: Project, tmp_path: Path) -> None:
    for name in ("a/1.png", "a/locked/2.png", "3.png"):
        shade(tmp_path / name, 0)
    (tmp_path / "a/locked").chmod(0o644)
    (tmp_path / "3.png").chmod(0)
    if subprocess.run(["cat", tmp_path / "3.png"], preexec_fn=as_anybody).returncode == 0:
        pytest.skip("here root reads every file, and cannot do without")
    arguments = ("a", "3.png", "-o", "p.parquet", "--models", str(trained.root / "models"))
    assert command(tmp_path, *arguments, anybody=True) == (0, "")
    problems = pl.read_parquet(tmp_path / "p.parquet")["problem"].to_list()
    assert problems == [None, *["cannot be read (Permission denied)"] * 2]


def test_the_table_is_written_though_nobody_reads_what_is_said(
    trained: Project, tmp_path: Path
) -> None:
    for value in range(3):  # nearly black: there is something to say
        shade(tmp_path / f"a/{value}.png", value)
    arguments = ("a", "-o", "p.parquet", "--models", str(trained.root / "models"))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed, open("/dev/full", "w") as full:  # noqa: PTH123
        for stdout in (closed, full):
            code, said = command(tmp_path, *arguments, stdout=stdout)
            assert len(pl.read_parquet(tmp_path / "p.parquet")) == 3, said
            (tmp_path / "p.parquet").unlink()
            assert (code == 0) == (stdout is closed), said  # a log that is not whole is told


def test_terminated_it_leaves_nothing_half_written(trained: Project, tmp_path: Path) -> None:
    pl.DataFrame({"image": [png(0)] * 200_000}).write_parquet(tmp_path / "t.parquet")
    arguments = ["t.parquet", "-o", "p.parquet", "--models", str(trained.root / "models")]
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.app", "predict", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp-p.parquet*")) and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_folder_for_a_table_and_a_folder_that_is_gone_are_answered_in_a_line(
    trained: Project, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "p.parquet").mkdir()
    models = ("--models", str(trained.root / "models"))
    code, said = command(tmp_path, "a.png", "-o", "p.parquet", *models)
    assert code == 1
    assert said.startswith("p.parquet: is a folder; name the table in it")
    code, said = command(tmp_path, "a.png", "-o", "/proc/x.parquet", *models)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("/proc/x.parquet: cannot be written (No such file or directory)")
    os.mkfifo(tmp_path / "pipe.parquet")
    code, said = command(tmp_path, "a.png", "-o", "pipe.parquet", *models)
    assert (code, said) == (
        1,
        "pipe.parquet: is no plain file; choose another name for the table\n",
    )


def test_through_a_link_the_table_gets_where_it_leads(trained: Project, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "link.parquet").symlink_to("real.parquet")
    models = str(trained.root / "models")
    assert command(tmp_path, "a.png", "-o", "link.parquet", "--models", models)[0] == 0
    assert (tmp_path / "link.parquet").is_symlink()
    assert len(pl.read_parquet(tmp_path / "real.parquet")) == 1
    (tmp_path / "real.parquet").chmod(0o444)  # as DVC keeps its cache, where its links lead to
    code, said = command(tmp_path, "a.png", "-o", "link.parquet", "--models", models)
    assert code == 1
    assert said.startswith(f"{tmp_path}/real.parquet: must not be written, and the name for the")
    (tmp_path / "loop.parquet").symlink_to("loop.parquet")  # leads nowhere, so that it gives way
    assert command(tmp_path, "a.png", "-o", "loop.parquet", "--models", models)[0] == 0


def test_row_40_nothing_to_predict_is_answered_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, said = command(tmp_path, "empty", "-o", "p.parquet")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("empty: holds no image; names of images end in .jpg")
    assert not (tmp_path / "p.parquet").exists()


def test_a_table_damaged_within_is_named_and_not_the_output(tmp_path: Path) -> None:
    pl.DataFrame({"image": [png(0)] * 200}).write_parquet(
        tmp_path / "t.parquet", compression="uncompressed", row_group_size=50
    )
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet: no Parquet file, or a damaged one"):
        applied(tmp_path / "t.parquet")


@pytest.mark.parametrize("wrong", [{"height": 7}, {"channels": 5, "height": 1, "width": 1}])
def test_pixels_of_another_shape_than_the_table_tells_are_a_row(
    trained: Project, tmp_path: Path, wrong: dict[str, int]
) -> None:
    table = pl.read_parquet(trained.root / "data/images.parquet").head(2)
    if "channels" in wrong:
        pixels = bytes(5)
        table = table.with_columns(
            pl.lit(pixels).alias("image"),
            pl.lit(hashlib.sha256(pixels).hexdigest()).alias("sha256"),
        )
    table = table.with_columns(
        pl.lit(value).cast(table.schema[key]).alias(key) for key, value in wrong.items()
    )
    table.write_parquet(tmp_path / "t.parquet")
    found = applied(tmp_path / "t.parquet")
    assert set(found["problem"]) == {"its pixels are not of the shape that the table tells"}


def test_row_40_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: not found; give image files, folders"):
        applied(tmp_path / "missing")
    (tmp_path / "table.parquet").write_text("no table")
    with pytest.raises(UserError, match="no Parquet file, or a damaged one"):
        applied(tmp_path / "table.parquet")
    (tmp_path / "file").write_text("no archive")
    with pytest.raises(UserError, match=r"not a tar, tar\.gz or zip archive"):
        applied(tmp_path / "file")
    code, said = command(tmp_path, "file", "-o", "file")
    assert (code, said) == (1, "file: is one of the inputs; choose another name for the table\n")
    code, said = command(tmp_path, "file", "-o", "p.csv")
    ends = "give it a name that ends in .parquet"
    assert (code, said) == (1, f"p.csv: predictions are a Parquet table; {ends}\n")
