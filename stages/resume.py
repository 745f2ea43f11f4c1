"""Commands on the saved states of trainings; the library is imported within them, so that --help answers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stages.cli import print_table

if TYPE_CHECKING:
    from pipeline_lib.doctor.resume_states import State

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
Days = Annotated[float, typer.Option("--older-than", min=0, help="Only those last saved DAYS ago.")]
HEAD = ("state", "training", "step", "days ago", "size", "in use")


@app.callback()
def about() -> None:
    """Saved states of trainings that have not finished: list them, or delete those not in use."""


@app.command("list")
def list_states() -> None:
    """Show the saved states: what was trained, how far, when, how large, and which process uses it."""
    from pipeline_lib.doctor.resume_states import states
    from pipeline_lib.training.resume import resume_root

    found = states(resume_root())
    if not found:
        print(f"no resume state in {resume_root()}")
    else:
        print_table([HEAD, *map(_row, found)])


@app.command()
def clean(older_than: Days = 0) -> None:
    """Delete the saved states that no training uses, and say how much that frees."""
    from pipeline_lib.doctor.finding import counted, human
    from pipeline_lib.doctor.resume_states import remove, states
    from pipeline_lib.training.resume import resume_root

    freed = removed = 0
    for state in states(resume_root()):
        if state.days < older_than:
            print(f"kept {state.folder}: {state.days:.1f} days old")
        elif not remove(state):
            print(f"kept {state.folder}: a training uses it")
        else:
            print(f"removed {state.folder}: {state.what}, {human(state.size)}")
            removed, freed = removed + 1, freed + state.size
    print(f"{counted(removed, 'resume state')} removed, {freed} bytes freed")


def _row(state: State) -> tuple[str, ...]:
    from pipeline_lib.doctor.finding import human

    step = "-" if state.step is None else str(state.step)
    user = f"process {state.user}" if state.user else "no"
    return (state.folder.name, state.what, step, f"{state.days:.1f}", human(state.size), user)
