"""Which names the augmentation keys of `train` may have, found without importing torch."""

from __future__ import annotations

import re

from pipeline_lib.errors import did_you_mean

POLICIES = (
    "auto",
    "none",
    "affine_small",
    "affine_strong",
    "crop",
    "crop_flip",
    "crop_cutout",
    "crop_flip_cutout",
    "autoaugment",
    "autoaugment_svhn",
    "randaugment",
    "randaugment_fixmatch",
    "flip",
    "resized_crop_flip",
    "global_crop",
    "small_crop",
    "global_characters",
    "small_characters",
    "global_numbers",
    "small_numbers",
    "small_affine",
    "global_imagenet",
    "small_imagenet",
)
RANDAUGMENT = r"^randaugment_([1-9])_([12]?\d|30)$"
"""`randaugment_N_M`: N operations (1 to 9) of magnitude M (0 to 30); without numbers: 2 of 10."""
POLICY_SCHEMA = {
    "anyOf": [
        {"enum": list(POLICIES), "type": "string"},
        {"pattern": RANDAUGMENT, "type": "string"},
    ]
}


def randaugment_numbers(name: str) -> tuple[int, int] | None:
    """N and M of `randaugment_N_M`; None: `name` is another policy."""
    if name == "randaugment":
        return 2, 10
    numbers = re.fullmatch(RANDAUGMENT, name, re.ASCII)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def check_policy_name(name: str) -> str:
    """Return `name` if there is such a policy.

    Raises:
        ValueError: There is none; the message names all, and the closest one.
    """
    if name in POLICIES or randaugment_numbers(name):
        return name
    msg = (
        f"{name!r}: input should be one of {', '.join(POLICIES)}, or randaugment_N_M with N operations "
        f"(1 to 9) of magnitude M (0 to 30){did_you_mean(name, POLICIES)}"
    )
    raise ValueError(msg)
