"""A split names the images that its ids number."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_lib.artifacts import publish_bytes
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import publish_table, read_table
from pipeline_lib.pixels import check_images, naming_images


def test_a_split_older_than_the_images_is_refused(tmp_path: Path) -> None:
    images, path = tmp_path / "images.parquet", tmp_path / "train.parquet"
    publish_bytes(images, b"of cats")
    publish_table(path, naming_images(pa.table({"id": [0, 1]}), images))
    check_images(path, read_table(path), images)
    publish_bytes(images, b"of dogs")
    with pytest.raises(UserError, match=r"of other images than .* run `dvc repro split`"):
        check_images(path, read_table(path), images)
