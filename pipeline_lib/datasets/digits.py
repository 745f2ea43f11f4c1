"""The 1,797 handwritten digits that ship inside scikit-learn: 8x8 pixels, 17 shades of gray.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998). They have no test split of their own.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.artifacts import publish_bytes, verify
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Data

POLICY = "digits"
CHANNELS = "gray"
FILE = "digits.csv.gz"
SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
SIDE = 8
BRIGHTEST = 16


def download(data: Data, raw: Path) -> None:
    """Copy the file out of the installed scikit-learn, which is not imported: that takes a second.

    Raises:
        UserError: scikit-learn is missing, or holds another file.
    """
    del data
    package = importlib.util.find_spec("sklearn")
    path = (
        Path(package.origin).parent / "datasets" / "data" / FILE
        if package and package.origin
        else None
    )
    if path is None or not path.is_file():
        msg = f"{FILE}: not found in scikit-learn; install the packages of requirements.txt"
        raise UserError(msg)
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != SHA256:
        msg = f"{FILE}: scikit-learn's file has sha256 {actual[:16]}..., expected {SHA256[:16]}...; reinstall it"
        raise UserError(msg)
    publish_bytes(raw / FILE, content)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the digits in the order of the file, scaled from 0..16 to 0..255."""
    del data
    verify(raw / FILE)
    text = gzip.decompress((raw / FILE).read_bytes()).decode("ascii")
    for number, line in enumerate(text.splitlines(), start=1):
        values = np.array([int(float(value)) for value in line.split(",")])
        shades = (values[:-1] * 255 + BRIGHTEST // 2) // BRIGHTEST
        digit = str(values[-1])
        yield Row(
            source_id=f"digits/{number:04d}",
            image=shades.astype(np.uint8).reshape(SIDE, SIDE, 1),
            label=digit,
            true_label=digit,
        )
