"""ImageNet, from tiny folders and archives in the official formats."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from ruamel.yaml import YAML
from scipy.io import savemat

from pipeline_lib.artifacts import read_json
from pipeline_lib.datasets import imagenet
from pipeline_lib.datasets.files import official
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import Data
from pipeline_lib.parquet import read_table

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["data"]
# By number, which is not the alphabetical order.
WNIDS = {1: "n02119789", 2: "n02100735", 3: "n01440764"}
TRUTH = [3, 1, 2, 1]
KIT = "ILSVRC2012_devkit_t12"


def picture(seed: int, form: str = "JPEG", mode: str = "RGB") -> bytes:
    """No two of one size, as in ImageNet."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9 + seed, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def train_images() -> dict[str, dict[str, bytes]]:
    """By class; among them what ImageNet has too: a PNG called JPEG, and CMYK."""
    images: dict[str, dict[str, bytes]] = {}
    for number, wnid in WNIDS.items():
        names = [f"{wnid}_{seed}.JPEG" for seed in (10, 9, 100)]
        images[wnid] = {name: picture(3 * number + i) for i, name in enumerate(names)}
    images[WNIDS[1]][f"{WNIDS[1]}_9.JPEG"] = picture(30, "PNG")
    images[WNIDS[2]][f"{WNIDS[2]}_9.JPEG"] = picture(31, "JPEG", "CMYK")
    return images


def val_images() -> dict[str, bytes]:
    return {
        f"ILSVRC2012_val_{number + 1:08d}.JPEG": picture(40 + number)
        for number in range(len(TRUTH))
    }


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def meta(wnids: dict[int, str]) -> bytes:
    """Synsets as the kit has them: also those above the classes, with numbers above theirs."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object)]
    fields += [("num_children", object), ("children", object)]
    rows = [(float(number), wnid, "a word", "a text", 0.0, []) for number, wnid in wnids.items()]
    rows.append((1001.0, "n00001740", "entity", "all", 2.0, [1.0, 2.0]))
    file = io.BytesIO()
    savemat(file, {"synsets": np.array(rows, fields)[:, None]}, do_compression=True)
    return file.getvalue()


def kit(meta_mat: bytes | None = None, truth: str | None = None) -> bytes:
    lines = "".join(f"{number}\n" for number in TRUTH)
    content = {
        f"{KIT}/readme.txt": b"ILSVRC",
        f"{KIT}/data/meta.mat": meta(WNIDS) if meta_mat is None else meta_mat,
        f"{KIT}/{official.TRUTH}": (lines if truth is None else truth).encode(),
    }
    return tar({name: each for name, each in content.items() if each}, "w:gz")


def official_files() -> dict[str, bytes]:
    """Neither classes nor images in order."""
    parts = {f"{wnid}.tar": tar(images) for wnid, images in train_images().items()}
    val = dict(reversed(val_images().items()))
    return {official.TRAIN: tar(parts), official.VAL: tar(val), official.DEVKIT: kit()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def folders() -> dict[str, bytes]:
    files = {
        f"train/{wnid}/{name}": content
        for wnid, images in train_images().items()
        for name, content in images.items()
    }
    for number, (name, content) in zip(TRUTH, val_images().items(), strict=True):
        files[f"val/{WNIDS[number]}/{name}"] = content
    return files


def place(form: str, tmp_path: Path) -> Path:
    if form == "official":
        return write(tmp_path / "imagenet", official_files())
    if form == "folder":
        return write(tmp_path / "imagenet", folders())
    return write(tmp_path, {"imagenet.tar": tar(folders())}) / "imagenet.tar"


def options(where: Path, **changes: object) -> Data:
    chosen = {"name": "imagenet", "path": str(where), "image_size": 8}
    return Data.model_validate(PARAMS | chosen | changes)


def rows_of(chosen: Data, tmp_path: Path) -> list[imagenet.Row]:
    snapshot(chosen, tmp_path / "data/raw")
    return list(imagenet.read(tmp_path / "data/raw", chosen))


FORMS = ["folder", "archive", "official"]


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_are_the_same_whatever_the_images_come_in(tmp_path: Path, form: str):
    found = rows_of(options(place(form, tmp_path)), tmp_path)
    expected = [
        (name, content, name.split("/")[1], "train" if name.startswith("train") else "test")
        for name, content in sorted(folders().items())
    ]
    assert [(row.source_id, row.image, row.label, row.split) for row in found] == expected
    assert [row.true_label for row in found] == [label for _, _, label, _ in expected]


@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_names_leaves_the_others_unlabeled(tmp_path: Path, form: str):
    names = [f"{wnid}_{seed}.JPEG" for wnid, seed in zip(WNIDS.values(), (9, 100, 10), strict=True)]
    write(tmp_path, {"1percent.txt": "".join(f"{name}\n" for name in names).encode()})
    chosen = options(place(form, tmp_path), table=str(tmp_path / "1percent.txt"))
    for row in rows_of(chosen, tmp_path):
        kept = row.split == "test" or row.source_id.rpartition("/")[2] in names
        assert row.label == (row.true_label if kept else None)
        assert row.true_label == row.source_id.split("/")[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_list_with_an_unknown_name_is_refused_before_an_image_is_read(tmp_path, form: str):
    write(tmp_path, {"list.txt": b"n01440764_9.JPEG\nn01440764_11.JPEG\n"})
    chosen = options(place(form, tmp_path), table=str(tmp_path / "list.txt"))
    snapshot(chosen, tmp_path / "data/raw")
    with pytest.raises(UserError, match=r"list\.txt:2: .*n01440764_11\.JPEG"):
        next(imagenet.read(tmp_path / "data/raw", chosen))


@pytest.mark.parametrize("form", FORMS)
def test_ingest_reads_what_is_odd_in_imagenet(tmp_path: Path, form: str):
    chosen = options(place(form, tmp_path))
    snapshot(chosen, tmp_path / "data/raw")
    ingest(tmp_path / "data/raw", chosen, tmp_path)
    described = read_json(tmp_path / "classes.json")
    assert described["classes"] == sorted(WNIDS.values())
    assert (described["policy"], described["channels"]) == ("natural", 3)
    assert read_table(tmp_path / "images.parquet").num_rows == 13
    assert read_table(tmp_path / "rejected.parquet").num_rows == 0


def test_the_official_archives_stay_where_they_are(tmp_path: Path):
    chosen = options(place("official", tmp_path))
    before = {path: path.stat() for path in (tmp_path / "imagenet").iterdir()}
    rows_of(chosen, tmp_path)
    kept = [path.name for path in (tmp_path / "data/raw").iterdir()]
    assert sorted(kept) == ["official.json", "official.json.sha256"]
    assert set(before) == set((tmp_path / "imagenet").iterdir())
    for path, was in before.items():
        now = path.stat()
        assert (now.st_mode, now.st_mtime_ns, now.st_nlink) == (was.st_mode, was.st_mtime_ns, 1)


@pytest.mark.parametrize("name", [official.TRAIN, official.VAL, official.DEVKIT])
def test_an_archive_that_has_changed_since_is_refused(tmp_path: Path, name: str):
    chosen = options(place("official", tmp_path))
    snapshot(chosen, tmp_path / "data/raw")
    path = tmp_path / "imagenet" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: is not the file that it was; dvc repro --force"):
        next(imagenet.read(tmp_path / "data/raw", chosen))
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: not found; data.path is to hold"):
        next(imagenet.read(tmp_path / "data/raw", chosen))


def without(name: str) -> dict[str, bytes]:
    return {key: content for key, content in official_files().items() if key != name}


def link() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        header = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
        header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(header)
    return file.getvalue()


def parts(**changes: bytes) -> bytes:
    made = {wnid: tar(images) for wnid, images in train_images().items()} | changes
    return tar({f"{wnid}.tar": content for wnid, content in made.items() if content})


CLASS = tar(train_images()["n01440764"])
FAULTS = {
    "no kit": (official.DEVKIT, None, "not found; data.path is to hold"),
    "no validation images": (official.VAL, None, "not found; data.path is to hold"),
    "kit no archive": (official.DEVKIT, b"<html>", "damaged archive"),
    "no meta.mat": (official.DEVKIT, kit(b""), "data/meta.mat: not in the archive"),
    "no truth": (official.DEVKIT, kit(truth=""), f"{official.TRUTH}: not in the archive"),
    "meta.mat a page": (official.DEVKIT, kit(b"<html>" * 50), "data/meta.mat: damaged archive"),
    "meta.mat cut": (official.DEVKIT, kit(meta(WNIDS)[:300]), "data/meta.mat: damaged archive"),
    "truth in words": (
        official.DEVKIT,
        kit(truth="3\none\n"),
        "'one' is not the number of a class",
    ),
    "truth above": (official.DEVKIT, kit(truth="3\n1001\n"), "'1001' is not the number of a class"),
    "one image too few": (
        official.VAL,
        tar(dict(list(val_images().items())[1:])),
        "3 images, but data/ILSVRC2012_validation_ground_truth.txt in",
    ),
    "validation a page": (official.VAL, b"<html>" * 200, "damaged archive"),
    "validation cut": (official.VAL, tar(val_images())[:1500], "damaged archive"),
    "validation without an end": (official.VAL, tar(val_images())[:4096], "it ends too early"),
    "a link": (official.VAL, link(), "no plain file of at most"),
    "a path outside": (official.VAL, tar({"../x.JPEG": b""}), "leads out of the archive"),
    "training cut": (official.TRAIN, parts()[:15_000], "damaged archive"),
    "a class missing": (official.TRAIN, parts(n01440764=b""), "lacks classes: n01440764"),
    "a class too many": (official.TRAIN, parts(n1=CLASS), "has unknown classes: n1"),
    "a class a page": (
        official.TRAIN,
        parts(n01440764=b"<html>"),
        "n01440764.tar: damaged archive",
    ),
    "a class cut": (
        official.TRAIN,
        parts(n01440764=CLASS[:1000]),
        "n01440764.tar: damaged archive",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_official_archives_that_do_not_fit_are_refused(tmp_path: Path, case: str):
    name, content, problem = FAULTS[case]
    files = without(name) | ({} if content is None else {name: content})
    chosen = options(write(tmp_path / "imagenet", files))
    with pytest.raises(UserError) as caught:
        rows_of(chosen, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/imagenet/{name}: ")
    assert problem in message
    assert "\n" not in message


FOLDERS = {
    "no splits": {"n01440764/1.JPEG": b"", "n02100735/1.JPEG": b""},
    "validation flat": {"train/n01440764/1.JPEG": b"", "val/1.JPEG": b""},
    "a split of its own": {"train/n01440764/1.JPEG": b"", "test/n01440764/1.JPEG": b""},
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_in_another_order_are_refused(tmp_path: Path, case: str):
    chosen = options(write(tmp_path / "imagenet", FOLDERS[case]))
    with pytest.raises(UserError, match="arrange ImageNet as train/<wnid>/<file> and val/"):
        rows_of(chosen, tmp_path)


def test_a_kit_of_fewer_images_is_refused(tmp_path: Path):
    files = without(official.DEVKIT) | {official.DEVKIT: kit(truth="3\n1\n")}
    chosen = options(write(tmp_path / "imagenet", files))
    with pytest.raises(UserError, match=f"{official.VAL}: 4 images, but {official.TRUTH} in"):
        rows_of(chosen, tmp_path)


def test_the_official_archives_have_no_sha256_together(tmp_path: Path):
    chosen = options(place("official", tmp_path), sha256="a" * 64)
    with pytest.raises(UserError, match=r"data\.sha256: .* is a folder, which has none"):
        rows_of(chosen, tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_size": None}, r"data\.image_size: the images of imagenet differ in size"),
        ({"path": None}, r"data\.path: imagenet needs the folder"),
    ],
)
def test_what_it_needs_is_said_with_the_params(tmp_path: Path, changes, problem: str):
    with pytest.raises(ValidationError, match=problem):
        options(tmp_path, **changes)
