"""The predictor in files that need nothing of this project: a program of torch, and ONNX.

Both take uint8 images (B, C, H, W), any B, and give float32 probabilities (B, K); all that lies between,
the normalisation and PAWS's labeled images too, is inside. A file is only left if it agrees with the predictor.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.export import Dim

from pipeline_lib.artifacts import publish_together, read_json
from pipeline_lib.errors import UserError
from pipeline_lib.models.description import (
    SCHEMA_VERSION,
    image_shape,
    read_description,
    stop_if_replaced,
    weights_sha256,
)
from pipeline_lib.models.predictor import in_passes, load_predictor
from pipeline_lib.parquet import read_table
from pipeline_lib.pixels import Stored, read_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from onnx_ir import Graph
    from torch import Tensor, nn
    from torch.export import ExportedProgram

Format = Literal["torch", "onnx"]
NAMES: dict[Format, str] = {"torch": "predictor.pt2", "onnx": "predictor.onnx"}
METADATA = "metadata.json"  # its name within predictor.pt2
TOLERANCE = 1e-4  # of probabilities
CHECKED = 256  # images
LARGEST_ONNX = (1 << 31) - (1 << 24)  # bytes of weights: one file of protobuf has 2 GiB at the most
NEEDED = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """A file, and how far it is from the predictor: the largest difference of a probability."""

    path: Path
    difference: float
    images: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.path}: at most {self.difference:.1g} from the predictor on {self.images}"


def export(
    models: Path,
    data: Path,
    out: Path,
    formats: Sequence[Format],
    commit: Callable[[], str | None] = lambda: None,
) -> list[Exported]:
    """Write the predictor in other formats; all of them or none.

    Args:
        models: holds the predictor.
        data: holds images.parquet and the split, to compare with; may be missing.
        out: gets the files.
        formats: to write.
        commit: of Git, which the files are to name; asked for once the predictor is loaded.

    Raises:
        UserError: A package is missing, a file gives other probabilities than the predictor, or see `stop_if_replaced`.
    """
    if "onnx" in formats:
        _check_packages()
    about = read_description(models)
    weights = weights_sha256(models)
    predictor = load_predictor(models)
    metadata = _metadata(about, weights, commit())
    stop_if_replaced(models, about, weights)
    images_NCHW, words = _images_to_compare(data, about)
    program = _program(predictor, images_NCHW[:2])
    exported = []
    with publish_together(*(out / NAMES[name] for name in formats)) as files:
        for name, file in zip(formats, files, strict=True):
            if name == "torch":
                _write_program(file, program, metadata)
                loaded = _read_program(file)
            else:
                _write_onnx(file, program, metadata)
                loaded = _read_onnx(file)
            path = out / NAMES[name]
            exported.append(Exported(path, _compared(path, predictor, loaded, images_NCHW), words))
    return exported


def _check_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        msg = f"--format: ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}, or --format torch"
        raise UserError(msg)


def _images_to_compare(data: Path, about: Mapping[str, Any]) -> tuple[Tensor, str]:
    """Test images, others of the dataset if those are few, or random ones if it is not there.

    Returns:
        uint8 (N, C, H, W), and what they are, in words.
    """
    shape = image_shape(about)
    images, classes, test = (
        data / name for name in ("images.parquet", "classes.json", "split/test.parquet")
    )
    stored = Stored.described_by(read_json(classes)) if classes.exists() else None
    if not images.exists() or stored is None or stored.shape != shape:
        pixels_NHWC = np.random.default_rng(1).integers(0, 256, (CHECKED, *shape), np.uint8)
        words = f"{CHECKED} random images, as {images} holds none for this predictor"
    else:
        ids_N = read_table(test)["id"].to_numpy()[:CHECKED] if test.exists() else np.arange(0)
        kind = "test images"
        if len(ids_N) < CHECKED:
            others_N = np.setdiff1d(np.arange(_rows(images)), ids_N)
            ids_N, kind = np.append(ids_N, others_N)[:CHECKED], f"images of {images}"
        pixels_NHWC, words = read_pixels(images, ids_N, stored), f"{len(ids_N)} {kind}"
    return torch.from_numpy(np.ascontiguousarray(pixels_NHWC.transpose(0, 3, 1, 2))), words


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _program(predictor: nn.Module, example_BCHW: Tensor) -> ExportedProgram:
    """The predictor as a graph that takes any number of images."""
    with _quiet():
        return torch.export.export(
            predictor, (example_BCHW,), dynamic_shapes=({0: Dim("batch", min=1)},)
        )


def _metadata(about: Mapping[str, Any], digest: str, commit: str | None) -> dict[str, Any]:
    """What whoever has the file alone needs to know."""
    network = about["architecture"]
    return {
        "input": "uint8 images (batch, channels, height, width)",
        "output": "float32 probabilities (batch, classes)",
        **{name: about[name] for name in ("classes", "resize", "method", "variant", "dataset")},
        **{name: network[name] for name in ("image_height", "image_width", "channels")},
        "seed": about["seed"],
        "network": network["name"],
        "predictor_sha256": digest,
        "commit": commit or "",
        "schema_version": SCHEMA_VERSION,
    }


def _write_program(path: Path, program: ExportedProgram, metadata: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
    path.write_bytes(content.getbuffer())


def _read_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Load what has just been written here; of a stranger's file, it could run code."""
    with _quiet(), path.open("rb") as file:
        module: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return module


def _write_onnx(path: Path, program: ExportedProgram, metadata: Mapping[str, Any]) -> None:
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    if weights > LARGEST_ONNX:
        msg = f"--format: {weights} bytes of weights do not fit in one file of ONNX; use --format torch"
        raise UserError(msg)
    with _quiet():
        model = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
        )
    assert model is not None  # noqa: S101  # it is None without dynamo only
    _name_batch(model.model.graph)
    model.model.metadata_props.update(
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    )
    model.save(path)


def _name_batch(graph: Graph) -> None:
    """Name the one axis of any length, which else has a name of torch's making; tools show it, and bind sizes by it."""
    from onnx_ir import Shape

    given = graph.inputs[0].shape
    assert given is not None  # noqa: S101  # of images it is known
    name = given[0]
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = Shape("batch" if size == name else size for size in value.shape)


def _read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@torch.inference_mode()
def _compared(
    path: Path, predictor: nn.Module, loaded: Callable[[Tensor], Tensor], images_NCHW: Tensor
) -> float:
    """The largest difference of a probability, in batches of one image and of many.

    Raises:
        UserError: It is above TOLERANCE.
    """
    parts = [part for part in (images_NCHW[:1], *in_passes(images_NCHW[1:])) if len(part)]
    differences = [(loaded(part) - predictor(part)).abs().max() for part in parts]
    difference = float(torch.stack(differences).max())  # NaN if one is
    if not difference <= TOLERANCE:
        msg = (
            f"{path}: its probabilities differ from the predictor's by {difference:.2g}, more than "
            f"{TOLERANCE:.0e}; nothing is written: try the other --format, or another version of torch"
        )
        raise UserError(msg)
    return difference
