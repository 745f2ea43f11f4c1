"""The command that measures how long a step takes; the library is imported within it."""

from __future__ import annotations

import json
import statistics

from pipeline_lib.errors import UserError


def compare_times() -> None:
    """Write compare.ms_per_step into params.yaml, from the cells that ran on this machine.

    Medians over the cells of a method and variant of milliseconds per step of each phase, validation included, and
    of the search for settings; of a training that was gone on with, the steps since. With several cells at a time
    these were slower than alone.
    """
    from pipeline_lib.artifacts import publish_text
    from pipeline_lib.cells.cell import TIMES, cells
    from pipeline_lib.methods.phases import SEARCH
    from pipeline_lib.params.load import PARAMS, load
    from pipeline_lib.recipes import edited

    measured: dict[str, dict[str, list[float]]] = {}
    for cell in cells(load().compare):
        path = TIMES / f"{cell.key}.json"
        if path.is_file():
            took = json.loads(path.read_text(encoding="utf-8"))
            for phase, ms in took.get("ms_per_step", {}).items():
                measured.setdefault(cell.contender, {}).setdefault(phase, []).append(ms)
    if not measured:
        msg = f"{TIMES}: no cell of this comparison ran on this machine; run `make compare` first"
        raise UserError(msg)
    found = {
        name: {phase: round(statistics.median(values), 3) for phase, values in phases.items()}
        for name, phases in measured.items()
    }
    text = PARAMS.read_text(encoding="utf-8")
    publish_text(PARAMS, edited(text, {"compare": {"ms_per_step": found}}), sidecar=False)
    for name, phases in found.items():
        told = (
            f"{ms} ms {'in all' if phase == SEARCH else 'per step'} ({phase})"
            for phase, ms in phases.items()
        )
        print(f"{name}: {', '.join(told)}")
