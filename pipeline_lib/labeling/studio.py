"""The chosen images as tasks for Label Studio, with the model's guess as a pre-annotation."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from PIL import Image

from pipeline_lib.datasets.files.sheet import quoted
from pipeline_lib.datasets.label_studio import BY
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.labeling.picks import Pick

CHOICES, SHOWN = "label", "image"  # names in the configuration
# Control characters, halves of characters, and two that are none.
NOT_IN_XML = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
SIDE = 256  # pixels, to which small images are enlarged: people are to see them


def configuration(classes: Sequence[str]) -> str:
    """The labeling interface of the project: the image, and one choice per class.

    Raises:
        UserError: A class has characters that XML has not.
    """
    for name in classes:
        if NOT_IN_XML.search(name):
            msg = f"class {quoted(name)}: cannot be a choice of Label Studio; rename it without control characters"
            raise UserError(msg)
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View>\n  <Image name="{SHOWN}" value="$image"/>\n'
        f'  <Choices name="{CHOICES}" toName="{SHOWN}" choice="single" showInLine="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def tasks(picks: Sequence[Pick], model: str, prefix: str | None) -> list[dict[str, Any]]:
    """One task per image, in the order of choice.

    Args:
        picks: the images.
        model: what the guesses are of.
        prefix: of the addresses at which Label Studio finds the images; None: they are within the tasks.
    """
    return [_task(pick, model, prefix) for pick in picks]


def _task(pick: Pick, model: str, prefix: str | None) -> dict[str, Any]:
    name, probability = pick.guesses[0]
    address = embedded(pick.image_HWC) if prefix is None else _address(prefix, pick.source)
    answer = {
        "from_name": CHOICES,
        "to_name": SHOWN,
        "type": "choices",
        "value": {"choices": [name]},
    }
    guess = {"model_version": model, "score": round(probability, 6), "result": [answer]}
    return {"data": {"image": address, "file": pick.source, "by": BY}, "predictions": [guess]}


def _address(prefix: str, source: str) -> str:
    """Where the image is; the keys of a bucket are not quoted."""
    return prefix + (quote(source) if prefix.startswith(("/", "http")) else source)


def embedded(image_HWC: NDArray[np.uint8]) -> str:
    """An image as a `data:` address, enlarged if it is small, without smoothing."""
    grey = image_HWC.shape[2] == 1
    image = Image.fromarray(image_HWC[:, :, 0] if grey else image_HWC)
    times = max(SIDE // max(image.size), 1)
    buffer = io.BytesIO()
    size = (image.width * times, image.height * times)
    image.resize(size, Image.Resampling.NEAREST).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
