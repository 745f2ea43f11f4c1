"""One thin command per stage: read the inputs, call one library function, publish, print."""

import os
import sys
from importlib.util import find_spec

os.environ["MPLBACKEND"] = "agg"  # Jupyter names a module that its own environment has

if find_spec("typer") is None:
    sys.exit(
        "the packages of requirements.txt are not in this Python: `make help .venv/ok` installs them, then `. .venv/bin/activate`"
    )
