"""The public datasets, from tiny archives in their publishers' formats."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import pickle
import re
import struct
import tarfile
import warnings
from functools import partial
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy.io import savemat

from pipeline_lib.artifacts import read_json
from pipeline_lib.datasets import cifar10, cifar100, fashion_mnist, kuzushiji_mnist, stl10
from pipeline_lib.datasets.files import public
from pipeline_lib.datasets.files.public import PublicFile
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.datasets.load import load_dataset, snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import OWN_IMAGES, Data
from pipeline_lib.parquet import read_table

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["data"]
NAMES = sorted({*get_args(Data.model_fields["name"].annotation)} - {*OWN_IMAGES, "digits"})
# What the archives are made of, and what is to be read: source, split, class, image.
Files = dict[str, bytes]
Expected = list[tuple[str, str, str | None, np.ndarray]]


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote with protocol 2: strings of bytes, and numpy's old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        short = len(content) < 256
        head = b"U" + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))
        self.write(head + content)

    def save_array(self, array: np.ndarray) -> None:
        by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        self.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
        self.save((0,))
        self.save("b")
        self.write(pickle.TUPLE3 + pickle.REDUCE + pickle.MARK)
        self.save(1)
        self.save(array.shape)
        self.write(b"cnumpy\ndtype\n")
        self.save((array.dtype.str[1:], 0, 1))
        self.write(pickle.REDUCE)
        self.save((3, "|", None, None, None, -1, -1, 0))
        self.write(pickle.BUILD)
        self.save(by_columns)
        self.save(array.tobytes("A"))
        self.write(pickle.TUPLE + pickle.BUILD)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[np.ndarray] = save_array


def python2(content: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(content)
    return file.getvalue()


def tar_gz(members: Files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def planes(images_NHWC: np.ndarray) -> np.ndarray:
    """Red, green, blue, each row by row."""
    return images_NHWC.transpose(0, 3, 1, 2).reshape(len(images_NHWC), -1)


CIFAR_NAMES = {
    "cifar10": ["airplane", "automobile", "bird"],
    "cifar100": ["apple", "aquarium_fish", "baby"],
}
COARSE_NAMES = ["fish", "fruit_and_vegetables", "people"]
COARSE = [1, 0, 2]


def cifar_members(name: str) -> tuple[Files, Expected]:
    """As the publisher packs them: not in order, and with other files between."""
    layout = {"cifar10": cifar10, "cifar100": cifar100}[name].LAYOUT
    folder = layout.meta.partition("/")[0]
    members: Files = {f"{folder}/readme.html": b"<html>"}
    expected: Expected = []
    for split, parts in layout.parts.items():
        number = 0
        for part in parts:
            images_NHWC = images(len(members) + 2, 32, 32, 3)
            labels = [(position + 1) % 3 for position in range(len(images_NHWC))]
            content = {"batch_label": "a batch", layout.labels: labels, "data": planes(images_NHWC)}
            if name == "cifar100":
                content["coarse_labels"] = [COARSE[label] for label in labels]
            members[part] = python2(content)
            for image, label in zip(images_NHWC, labels, strict=True):
                source = f"{name}/{split}/{number:05d}"
                expected.append((source, split, CIFAR_NAMES[name][label], image))
                number += 1
    names = {layout.names: CIFAR_NAMES[name], "coarse_label_names": COARSE_NAMES}
    members[layout.meta] = python2({"num_vis": 3072} | names)
    return dict(reversed(members.items())), expected


def cifar_files(name: str) -> tuple[Files, Expected]:
    members, expected = cifar_members(name)
    return {f"{name[:5]}-{name[5:]}-python.tar.gz": tar_gz(members)}, expected


def matlab(images_NHWC: np.ndarray, labels: list[int]) -> bytes:
    file = io.BytesIO()
    content = {"X": images_NHWC.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]}
    savemat(file, content, do_compression=True)
    return file.getvalue()


def svhn_files(name: str) -> tuple[Files, Expected]:
    files, expected = {}, []
    for part in ("train", "extra", "test") if name == "svhn_extra" else ("train", "test"):
        images_NHWC = images(len(part) + 8, 32, 32, 3)
        labels = [position % 10 + 1 for position in range(len(images_NHWC))]
        files[f"{part}_32x32.mat"] = matlab(images_NHWC, labels)
        for number, (image, label) in enumerate(zip(images_NHWC, labels, strict=True)):
            digit = "0" if label == 10 else str(label)
            source = f"svhn/{part}/{number:06d}"
            expected.append((source, "test" if part == "test" else "train", digit, image))
    return files, expected


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_files(name: str) -> tuple[Files, Expected]:
    files, expected = {}, []
    classes = {"fashion_mnist": fashion_mnist, "kuzushiji_mnist": kuzushiji_mnist}[name].CLASSES
    for split, part in (("train", "train"), ("test", "t10k")):
        images_NHW = images(len(part) + 7, 28, 28)
        labels_N = np.arange(len(images_NHW), dtype=np.uint8)[::-1] % 10
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(images_NHW))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels_N))
        for number, (image, label) in enumerate(zip(images_NHW, labels_N, strict=True)):
            source = f"{name}/{split}/{number:05d}"
            expected.append((source, split, classes[label], image[:, :, None]))
    return files, expected


FOLDS = [[4, 0], [1, 3, 0]]


def stl10_members() -> tuple[Files, Expected]:
    """As the publisher packs them: the test images first, the names of the classes last."""
    members: Files = {}
    expected: Expected = []
    for part, split in (("test", "test"), ("train", "train"), ("unlabeled", "train")):
        images_NHWC = images(len(part), 96, 96, 3)
        # Column by column is the transposed image row by row.
        members[f"stl10_binary/{part}_X.bin"] = planes(images_NHWC.transpose(0, 2, 1, 3)).tobytes()
        labels = [position % 3 + 1 for position in range(len(images_NHWC))]
        if part != "unlabeled":
            members[f"stl10_binary/{part}_y.bin"] = bytes(labels)
        for number, (image, label) in enumerate(zip(images_NHWC, labels, strict=True)):
            name = None if part == "unlabeled" else ("airplane", "bird", "car")[label - 1]
            expected.append((f"stl10/{part}/{number:06d}", split, name, image))
    members["stl10_binary/class_names.txt"] = b"airplane\nbird\ncar\n"
    lines = [" ".join(str(number) for number in fold) for fold in FOLDS]
    members["stl10_binary/fold_indices.txt"] = ("\n".join(lines) + "\n").encode()
    return members, expected


def made(name: str) -> tuple[Files, Expected]:
    if name == "stl10":
        members, expected = stl10_members()
        return {"stl10_binary.tar.gz": tar_gz(members)}, expected
    kind = {"cif": cifar_files, "svh": svhn_files}.get(name[:3], idx_files)
    return kind(name)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put files on a mirror, and pin them instead of the publisher's."""

    def put(name: str, files: Files) -> Data:
        (tmp_path / "mirror").mkdir(exist_ok=True)
        for file, content in files.items():
            (tmp_path / "mirror" / file).write_bytes(content)
        module = importlib.import_module(f"pipeline_lib.datasets.{name}")
        pinned = [
            PublicFile(
                file.url, len(files[file.name]), hashlib.sha256(files[file.name]).hexdigest()
            )
            for file in module.FILES
        ]
        monkeypatch.setattr(module, "download", partial(public.download, pinned))
        return Data.model_validate(PARAMS | {"name": name, "mirror": str(tmp_path / "mirror")})

    return put


def refused(options: Data, tmp_path: Path) -> str:
    snapshot(options, tmp_path / "raw")
    with pytest.raises(UserError) as caught:
        ingest(tmp_path / "raw", options, tmp_path)
    assert not (tmp_path / "images.parquet").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_pixel_and_label_comes_back(name: str, options, tmp_path: Path):
    files, expected = made(name)
    chosen = options(name, files)
    snapshot(chosen, tmp_path / "raw")
    assert sorted(p.name for p in (tmp_path / "raw").iterdir() if p.suffix != ".sha256") == sorted(
        files
    )
    ingest(tmp_path / "raw", chosen, tmp_path)
    pixels = read_table(tmp_path / "images.parquet").to_pylist()
    labels = read_table(tmp_path / "labels.parquet").to_pylist()
    described = read_json(tmp_path / "classes.json")
    named = [None, *described["classes"]]
    assert len(labels) == len(expected)
    for row, label, (source, split, true, image) in zip(pixels, labels, expected, strict=True):
        assert (label["source"], label["split"]) == (source, split)
        assert label["label"] == label["true_label"]
        assert named[0 if label["label"] is None else label["label"] + 1] == true
        assert (row["height"], row["width"], row["channels"]) == image.shape
        assert row["image"] == image.tobytes()
    assert described["policy"] == load_dataset(name).POLICY


@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_files_are_complete_and_come_by_https(name: str):
    assert name in get_args(Data.model_fields["name"].annotation)
    module = importlib.import_module(f"pipeline_lib.datasets.{name}")
    assert module.download.args == (module.FILES,)
    assert sorted(file.name for file in module.FILES) == sorted(made(name)[0])
    for file in module.FILES:
        assert re.fullmatch(r"https://[^?#]+/[\w.-]+", file.url)
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.size > 5000
        assert all(re.fullmatch(r"https://[\w./~-]+", folder) for folder in file.mirrors)
        assert len({file.url.rpartition("/")[0], *file.mirrors}) == 1 + len(file.mirrors)
    assert len({file.sha256 for file in module.FILES}) == len(module.FILES)


def test_the_pickles_made_here_are_what_numpy_reads():
    array = images(4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on how Python 2 wrote its types
        content = pickle.loads(python2({"data": array, "labels": [1, 2]}), encoding="bytes")  # noqa: S301
    assert content[b"labels"] == [1, 2]
    assert np.array_equal(content[b"data"], array)


def with_batch(**changes: object) -> Files:
    """CIFAR-10 whose test images are changed: a pickle, or keys of the one that it is."""
    members, _ = cifar_members("cifar10")
    content = {"data": planes(images(2, 32, 32, 3)), "labels": [0, 1]} | changes
    members["cifar-10-batches-py/test_batch"] = changes.get("pickle") or python2(content)
    return {"cifar-10-python.tar.gz": tar_gz(members)}


def test_an_array_stored_by_columns_is_read_the_same(options, tmp_path: Path):
    images_NHWC = images(2, 32, 32, 3)
    chosen = options("cifar10", with_batch(data=np.asfortranarray(planes(images_NHWC))))
    snapshot(chosen, tmp_path / "raw")
    rows = [row for row in cifar10.read(tmp_path / "raw", chosen) if row.split == "test"]
    assert np.array_equal(np.stack([row.image for row in rows]), images_NHWC)


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_refused(options, tmp_path, place: str, protocol: int):
    members, _ = cifar_members("cifar10")
    evil = pickle.dumps({"labels": Harm(tmp_path / "harm")}, protocol)
    members[f"cifar-10-batches-py/{place}"] = evil
    chosen = options("cifar10", {"cifar-10-python.tar.gz": tar_gz(members)})
    message = refused(chosen, tmp_path)
    assert message.startswith(
        f"cifar-10-python.tar.gz: cifar-10-batches-py/{place}: names posix.mkdir"
    )
    assert not (tmp_path / "harm").exists()
    pickle.loads(evil)  # noqa: S301  # it does do harm
    assert (tmp_path / "harm").is_dir()


PICKLES = {
    "another call of numpy": (pickle.dumps(np.float64(1)), "names numpy"),
    "a built-in": (b"cbuiltins\neval\n(U\x011tR.", "names builtins.eval"),
    "an extension": (b"\x80\x02\x82\x01.", "unregistered extension code 1"),
    "no pickle": (b"<html>", "it was refused"),
    "cut": (python2({"data": planes(images(2, 32, 32, 3))})[:-9], "it was refused"),
    "empty": (b"\x80", "it was refused"),
    "a list": (python2([1]), "holds a list, not a dict"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_what_is_no_pickle_of_images_is_refused(options, tmp_path: Path, case: str):
    content, problem = PICKLES[case]
    message = refused(options("cifar10", with_batch(pickle=content)), tmp_path)
    assert message.startswith("cifar-10-python.tar.gz: cifar-10-batches-py/test_batch: ")
    assert problem in message


BATCHES = {
    "no array": ({"data": [1, 2]}, "data is not an array of bytes"),
    "floats": ({"data": np.zeros((2, 3072), np.float32)}, "data is not an array of bytes"),
    "other width": ({"data": np.zeros((2, 3071), np.uint8)}, "data is not an array of bytes"),
    "labels missing": ({"labels": [1]}, "not one of labels per image"),
    "no labels": ({"labels": None}, "not one of labels per image"),
    "unknown class": ({"labels": [0, 3]}, "3 is not the number of a class"),
    "negative class": ({"labels": [0, -1]}, "-1 is not the number of a class"),
    "class in words": ({"labels": ["bird", 0]}, "b'bird' is not the number of a class"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_a_batch_that_does_not_fit_is_refused(options, tmp_path: Path, case: str):
    changes, problem = BATCHES[case]
    assert problem in refused(options("cifar10", with_batch(**changes)), tmp_path)


@pytest.mark.parametrize("gone", ["data_batch_3", "batches.meta"])
def test_a_missing_member_is_named(options, tmp_path: Path, gone: str):
    members, _ = cifar_members("cifar10")
    del members[f"cifar-10-batches-py/{gone}"]
    chosen = options("cifar10", {"cifar-10-python.tar.gz": tar_gz(members)})
    assert f"cifar-10-batches-py/{gone}: not in the archive" in refused(chosen, tmp_path)


def cifar100_with(meta: dict[str, object] | None = None, **changes: object) -> Files:
    """CIFAR-100 whose test images, or names, are changed."""
    members, _ = cifar_members("cifar100")
    content = {"data": planes(images(2, 32, 32, 3)), "fine_labels": [0, 1], "coarse_labels": [1, 0]}
    names = {"fine_label_names": CIFAR_NAMES["cifar100"], "coarse_label_names": COARSE_NAMES}
    members["cifar-100-python/test"] = python2(content | changes)
    members["cifar-100-python/meta"] = python2(names | (meta or {}))
    return {"cifar-100-python.tar.gz": tar_gz(members)}


SUPERCLASSES = {
    "wrong": ({"coarse_labels": [1, 2]}, "aquarium_fish is said to be of people, which it is not"),
    "missing": ({"coarse_labels": None}, "not one of coarse_labels per image"),
    "fewer": ({"coarse_labels": [1]}, "not one of coarse_labels per image"),
    "unknown number": ({"coarse_labels": [1, 3]}, "3 is not the number of a class"),
    "no names": ({"meta": {"coarse_label_names": None}}, "no names under coarse_label_names"),
    "unknown name": (
        {"meta": {"coarse_label_names": ["fish", "fruit", "people"]}},
        "apple is said to be of fruit, which it is not",
    ),
}


@pytest.mark.parametrize("case", SUPERCLASSES)
def test_superclasses_that_the_files_contradict_are_refused(options, tmp_path: Path, case: str):
    changes, problem = SUPERCLASSES[case]
    assert problem in refused(options("cifar100", cifar100_with(**changes)), tmp_path)


def test_superclasses_are_told_to_the_later_stages(options, tmp_path: Path):
    chosen = options("cifar100", cifar100_with())
    snapshot(chosen, tmp_path / "raw")
    ingest(tmp_path / "raw", chosen, tmp_path)
    assert read_json(tmp_path / "classes.json")["superclasses"] == cifar100.SUPERCLASSES


# By class number, in the alphabetical order of classes and superclasses: the files' coarse labels.
COARSE_OF_FINE = """
 4  1 14  8  0  6  7  7 18  3  3 14  9 18  7 11  3  9  7 11  6 11  5 10  7  6 13 15  3 15  0 11  1 10 12
14 16  9 11  5  5 19  8  8 15 13 14 17 18 10 16  4 17  4  2  0 17  4 18 17 10  3  2 12 12 16 12  1  9 19
 2 10  0  1 16 12  9 13 15 13 16 19  2  4  6 19  5  5  8 19 18  1  2 15  6  0 17  8 14 13
"""


def test_the_superclasses_are_the_publishers():
    groups = list(cifar100.SUPERCLASSES)
    assert groups == sorted(groups)
    of = {name: group for group, names in cifar100.SUPERCLASSES.items() for name in names}
    numbers = [groups.index(of[name]) for name in sorted(of)]
    assert numbers == [int(number) for number in COARSE_OF_FINE.split()]


def idx_case(**contents: bytes) -> Files:
    files, _ = idx_files("fashion_mnist")
    names = {"images": "train-images-idx3-ubyte.gz", "labels": "t10k-labels-idx1-ubyte.gz"}
    return files | {names[which]: content for which, content in contents.items()}


good = idx(images(3, 28, 28))
IDX = {
    "no gzip": (idx_case(images=good), "train-images-idx3-ubyte.gz: damaged gzip file"),
    "cut gzip": (idx_case(images=gzip.compress(good)[:-9]), "damaged gzip file"),
    "cut": (
        idx_case(images=gzip.compress(good[:-1])),
        "holds 2351 bytes, its header says 2352",
    ),
    "too much": (idx_case(images=gzip.compress(good + b"x")), "holds 2353 bytes"),
    "labels as images": (idx_case(images=gzip.compress(idx(images(3)))), "3 dimensions"),
    "floats": (idx_case(images=gzip.compress(b"\0\0\x0d" + good[3:])), "not a byte array"),
    "huge": (
        idx_case(images=gzip.compress(good[:4] + b"\xff" * 12)),
        "its header says 79228162458924105385300197375",
    ),
    "other size": (idx_case(images=gzip.compress(idx(images(3, 28, 27)))), "not 28x28"),
    "fewer labels": (
        idx_case(labels=gzip.compress(idx(np.zeros(3, np.uint8)))),
        "t10k-labels-idx1-ubyte.gz: 3 labels for 11 images",
    ),
    "unknown class": (
        idx_case(labels=gzip.compress(idx(np.full(11, 10, np.uint8)))),
        "10 is not the number of a class",
    ),
    "empty": (idx_case(labels=gzip.compress(b"")), "not a byte array of 1 dimensions"),
}


@pytest.mark.parametrize("case", IDX)
def test_idx_files_that_do_not_fit_are_refused(options, tmp_path: Path, case: str):
    files, problem = IDX[case]
    assert problem in refused(options("fashion_mnist", files), tmp_path)


def mat(**variables: object) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()


X, Y = images(32, 32, 3, 4), np.array([[1, 2, 3, 10]], np.uint8)
MATLAB = {
    "empty": (b"", "damaged MATLAB file"),
    "a page": (b"<html>" * 100, "damaged MATLAB file"),
    "cut": (mat(y=Y, X=X)[:2000], "damaged MATLAB file (it ends too early)"),
    "cut before the labels": (mat(X=X, y=Y)[:2000], "no variables X and y"),
    "damaged": (mat(X=X, y=Y)[:1000] + b"\0" * 99 + mat(X=X, y=Y)[1099:], "damaged MATLAB file"),
    "no labels": (mat(X=X), "no variables X and y"),
    "floats": (mat(X=X / 2, y=Y), "X is double (32, 32, 3, 4), not bytes"),
    "other shape": (mat(X=X[:31], y=Y), "X is uint8 (31, 32, 3, 4), not bytes"),
    "fewer labels": (mat(X=X, y=Y[:, 1:]), "3 labels for 4 images"),
    "label 0": (mat(X=X, y=Y - 1), "labels are not 1 to 10"),
    "label 11": (mat(X=X, y=Y + 1), "labels are not 1 to 10"),
    "words": (mat(X=X, y=np.array(["1", "2", "3", "4"])), "labels are not 1 to 10"),
}


@pytest.mark.parametrize("case", MATLAB)
def test_matlab_files_that_do_not_fit_are_refused(options, tmp_path: Path, case: str):
    content, problem = MATLAB[case]
    files, _ = svhn_files("svhn")
    message = refused(options("svhn", files | {"test_32x32.mat": content}), tmp_path)
    assert message.startswith("test_32x32.mat: ")
    assert problem in message


def stl(**changes: bytes | None) -> bytes:
    members, _ = stl10_members()
    changed = {f"stl10_binary/{name.replace('__', '.')}": new for name, new in changes.items()}
    return tar_gz({name: new for name, new in (members | changed).items() if new is not None})


STL = {
    "no archive": (b"<html>", "damaged archive"),
    "cut": (stl()[: len(stl()) // 2], "damaged archive"),
    "no unlabeled images": (stl(unlabeled_X__bin=None), "unlabeled_X.bin: not in the archive"),
    "no labels": (stl(train_y__bin=None), "train_y.bin: not in the archive"),
    "no names": (stl(class_names__txt=None), "class_names.txt: not in the archive"),
    "part of an image": (stl(train_X__bin=bytes(27647)), "27647 bytes are no 96x96 images"),
    "fewer labels": (stl(test_y__bin=b"\1\2"), "test_y.bin: 2 labels, 4 images"),
    "label 0": (stl(test_y__bin=b"\1\2\3\0"), "labels are not 1 to 3"),
    "label 4": (stl(test_y__bin=b"\1\2\3\4"), "labels are not 1 to 3"),
}


@pytest.mark.parametrize("case", STL)
def test_stl10_archives_that_do_not_fit_are_refused(options, tmp_path: Path, case: str):
    content, problem = STL[case]
    message = refused(options("stl10", {"stl10_binary.tar.gz": content}), tmp_path)
    assert message.startswith("stl10_binary.tar.gz: ")
    assert problem in message


def test_stl10_is_read_whatever_the_order_in_the_archive(options, tmp_path: Path):
    members, expected = stl10_members()
    content = tar_gz(dict(reversed(members.items())))
    chosen = options("stl10", {"stl10_binary.tar.gz": content})
    snapshot(chosen, tmp_path / "raw")
    rows = {row.source_id: row for row in stl10.read(tmp_path / "raw", chosen)}
    assert len(rows) == len(expected)
    for source, split, label, image in expected:
        assert (rows[source].split, rows[source].label) == (split, label)
        assert np.array_equal(rows[source].image, image)


def folded(chosen: Data, fold: int) -> Data:
    return chosen.model_copy(update={"fold": fold})


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_of_stl10_keeps_its_labels_and_the_rest_lose_theirs(
    options, tmp_path: Path, fold: int
):
    members, expected = stl10_members()
    chosen = folded(options("stl10", {"stl10_binary.tar.gz": tar_gz(members)}), fold)
    snapshot(chosen, tmp_path / "raw")
    rows = {row.source_id: row for row in stl10.read(tmp_path / "raw", chosen)}
    kept = {f"stl10/train/{number:06d}" for number in FOLDS[fold]}
    for source, split, label, image in expected:
        row = rows[source]
        assert (row.split, row.true_label) == (split, label)
        assert row.label == (label if source in kept or split == "test" else None)
        assert np.array_equal(row.image, image)


BAD_FOLDS = {
    "none": (None, "fold_indices.txt: not in the archive"),
    "too few": (b"0 1\n", "fold_indices.txt: line 2 is no list of different positions below 5"),
    "empty": (b"0 1\n\n", "line 2 is no list"),
    "beyond": (b"0 1\n4 5\n", "line 2 is no list"),
    "negative": (b"0 1\n-1 2\n", "line 2 is no list"),
    "twice": (b"0 1\n2 2\n", "line 2 is no list"),
    "words": (b"0 1\none two\n", "line 2 is no list"),
    "other digits": ("0 1\n²\n".encode(), "line 2 is no list"),
    "binary": (b"0 1\n\xff\xfe\n", "line 2 is no list"),
}


@pytest.mark.parametrize("case", BAD_FOLDS)
def test_a_fold_file_that_does_not_fit_is_refused(options, tmp_path: Path, case: str):
    content, problem = BAD_FOLDS[case]
    archive = stl(fold_indices__txt=content)
    chosen = options("stl10", {"stl10_binary.tar.gz": archive})
    message = refused(folded(chosen, 1), tmp_path)
    assert message.startswith("stl10_binary.tar.gz: stl10_binary/fold_indices.txt: ")
    assert problem in message
    ingest(tmp_path / "raw", chosen, tmp_path)  # without a fold, nobody reads it


@pytest.mark.parametrize("name", NAMES)
def test_a_file_damaged_on_the_disk_is_not_read(name: str, options, tmp_path: Path):
    chosen = options(name, made(name)[0])
    snapshot(chosen, tmp_path / "raw")
    file = tmp_path / "raw" / load_dataset(name).FILES[-1].name  # type: ignore[attr-defined]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{file.name}: damaged: sha256"):
        ingest(tmp_path / "raw", chosen, tmp_path)
