"""How to go on where the user's own images or labels are to be corrected: what is read is a snapshot of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import OWN_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Data

AGAIN = "once corrected: dvc repro --force download && dvc repro"


@contextlib.contextmanager
def reading_snapshot(data: Data, mistakes: type[UserError] = UserError) -> Iterator[None]:
    """Add to what is wrong with the user's own images or table how to go on once that is corrected.

    The file that the message names may be correct by now.

    Args:
        data: of params.yaml.
        mistakes: those that the images and labels may be the cause of.

    Raises:
        UserError: As one within, with that sentence unless it says by itself what to do with DVC.
    """
    try:
        yield
    except mistakes as error:
        if data.name not in OWN_IMAGES or "dvc repro" in str(error):
            raise
        between = "\n" if "\n" in str(error) else "; "  # no part of the last of several lines
        msg = f"{error}{between}{AGAIN}"
        raise UserError(msg) from error
