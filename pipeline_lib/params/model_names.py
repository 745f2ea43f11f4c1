"""Which names `model.name` may have, found without importing torch or torchvision."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

from pipeline_lib.errors import did_you_mean

OWN_MODELS = ("small_cnn", "lenet", "wrn_28_2", "wrn_34_10", "mobilenet_v1")

# Subfolders hold detection, segmentation, video and quantized models: no plain image classifiers.
_REGISTERED = re.compile(r"@register_model\(\)\s+(?:@[^\n]+\s+)*?def (\w+)\(")


@functools.cache
def torchvision_classifiers() -> frozenset[str]:
    """Names of torchvision's image classifiers, read from its source files (importing takes seconds)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return frozenset()
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(
        name for source in sources for name in _REGISTERED.findall(source.read_text("utf-8"))
    )


def check_model_name(name: str) -> str:
    """Return `name` if there is such a model.

    Raises:
        ValueError: There is none; the message names the closest ones.
    """
    if name in OWN_MODELS:
        return name
    others = torchvision_classifiers()
    if not others or name in others:
        return name
    hint = did_you_mean(name, [*OWN_MODELS, *sorted(others)], most=3)
    msg = f"no model {name!r}{hint}; choose {', '.join(OWN_MODELS)} or a torchvision classifier"
    raise ValueError(msg)
