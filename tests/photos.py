"""Photos as people have them, made from digits: mixed formats, sizes and modes, in the folders of the how-to."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

CLASSES = ("cat", "dog", "horse", "ship")
EACH = 50  # photos of a class
FLAT = 36  # images without a folder that names their class
TASKS = 20
ENDINGS = (".jpg", ".JPG", ".png", ".tif", ".gif", ".webp", ".bmp", ".jpeg", ".png")


def beside_the_clone(root: Path) -> None:
    """Make what docs/how-to/own-data.md assumes to lie beside the clone."""
    numbers = itertools.count()
    for name, count in itertools.product(CLASSES, range(EACH)):
        ending = ".jpg" if count == 1 else ENDINGS[count % len(ENDINGS)]
        photo(root / f"photos/{name}/{count}{ending}", next(numbers))
    sizes = {"sorted/train": 3, "sorted/val": 1, "sorted/test": 1, "few/train": 4, "few/test": 2}
    for part, name in itertools.product([*sizes, "studio/test"], CLASSES[:3]):
        for count in range(sizes.get(part, 2)):
            photo(root / f"{part}/{name}/{name}{count}.jpg", next(numbers))
    for count in range(TASKS):
        photo(root / f"few/unlabeled/{count}.jpg", next(numbers))
        photo(root / f"studio/train/{count}.jpg", next(numbers))
    for count in range(1, FLAT + 1):
        photo(root / f"flat/{count}.jpg", next(numbers))
    for animal, shot in itertools.product(range(8), range(1, 6)):
        name = ("fox", "hare")[animal % 2]
        photo(root / f"series/{name}/animal_{animal:02d}_{shot}.jpg", next(numbers))
    (root / "export.json").write_text(json.dumps([task(count) for count in range(TASKS)]))


@functools.cache
def digits() -> np.ndarray:
    """1,797 images of 8x8, values 0 to 16."""
    return load_digits().images


def photo(path: Path, number: int) -> None:
    """Save a digit in the format of the path's ending, in a size and mode of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = Image.fromarray((digits()[number] * 15.9).astype(np.uint8))
    side = 20 + 7 * (number % 11)
    gray = gray.resize((side, side + 5 * (number % 3)))
    match path.suffix:
        case ".JPG":
            sideways = Image.Exif()
            sideways[0x0112] = 6
            gray.convert("RGB").save(path, quality=95, exif=sideways)
        case ".jpeg":
            gray.convert("CMYK").save(path, quality=95)
        case ".png" if number % 2:
            Image.fromarray(np.asarray(gray, np.uint16) << 8).save(path)
        case ".png":
            gray.convert("RGBA").save(path)
        case ".gif":
            still = gray.convert("P")
            still.save(path, save_all=True, append_images=[still.transpose(Image.ROTATE_90)])
        case ".tif" | ".bmp":
            gray.save(path)
        case _:
            gray.convert("RGB").save(path)


def task(number: int) -> dict:
    """A task of Label Studio: one answer, two different ones, the same two, two again, or none."""
    answers = [["cat"], ["cat", "dog"], ["dog", "dog"], ["horse", "cat"], []][number % 5]
    annotations = [
        {
            "completed_by": who,
            "result": [{"type": "choices", "from_name": "animal", "value": {"choices": [answer]}}],
        }
        for who, answer in enumerate(answers)
    ]
    return {"data": {"image": f"/data/upload/1/0a1b2c3d-{number}.jpg"}, "annotations": annotations}
