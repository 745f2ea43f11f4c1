"""Start the train stage once per device, by torchrun's own launcher.

Imports no torch at first: the stage sets the processor's settings before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
import uuid
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline_lib.errors import InterruptedRunError, UserError
from pipeline_lib.parent import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Train

RANK = "RANK"  # torchrun's names of environment variables
LOCAL_RANK = "LOCAL_RANK"
PATIENCE = 10  # s, in which another rank, or the launcher, says what has gone wrong
MODULE = "stages.train"
SEVERAL = "PET_NNODES"  # torchrun's name for how many machines there are
FIRST = ("PET_MASTER_ADDR", "PET_MASTER_PORT")  # where the first of them is to be found
MEETING_SECONDS = 900  # as long as torch waits
GO_ON = "run the same command again to go on from the last saved state"


def rank_here() -> int:
    """Number of this process among those of its training; 0 where it is alone."""
    return int(os.environ.get(RANK, "0"))


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let rank 0 say what has gone wrong for all; another one speaks where it alone is in trouble.

    None outlives the launcher.
    """
    if RANK in os.environ:
        end_with_parent()
    try:
        yield
    except InterruptedRunError as error:
        if rank_here():
            sys.exit(error.exit_code)
        raise
    except UserError as error:
        if rank_here():
            time.sleep(PATIENCE)  # ended meanwhile, if rank 0 has
            msg = f"rank {rank_here()}: {error}"
            raise UserError(msg) from error
        raise


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let a rank that has failed end without a word to the others, which torch would say on its way out.

    Over NCCL it would wait there for those that wait for it, and the launcher would not hear that it has failed.
    """
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if RANK not in os.environ or not code:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def wanted(train: Train) -> int:
    """How many processes are to be started here; 0: this one trains.

    Raises:
        UserError: There are fewer GPUs than devices are asked for.
    """
    if RANK in os.environ:
        return 0
    if train.devices == 1:
        return int(SEVERAL in os.environ)
    import torch

    gpus = torch.cuda.device_count() if train.device in ("auto", "cuda") else 0
    if train.devices == "auto":
        return gpus if gpus > 1 or SEVERAL in os.environ else 0
    if gpus and train.devices > gpus:
        msg = f"train.devices: {train.devices}, but there are {gpus} GPUs here; lower it, or set it to auto"
        raise UserError(msg)
    return train.devices


def launch(processes: int) -> None:
    """Run the stage in `processes` of them, on this machine or, by torchrun's PET_* variables, on several.

    Raises:
        UserError: One has failed, and has said why, or was killed; the others are stopped. Or the first machine is not found.
        InterruptedRunError: SIGINT or SIGTERM came; the state is saved.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    logging.disable(logging.CRITICAL)  # its reports of what the stage says itself
    options = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={uuid.uuid4()}"]
    if SEVERAL in os.environ:  # torchrun reads all that it needs from there
        options = []
        _wait_for_first()
    arguments = parse_args([*options, f"--nproc-per-node={processes}", "--module", MODULE])
    config, command, rest = config_from_args(arguments)
    try:
        elastic_launch(config, command)(*rest)
    except SignalException as error:
        number = signal.Signals(error.sigval)
        msg = f"train: {number.name}; all processes have ended"
        raise InterruptedRunError(msg, number) from error
    except ChildFailedError as error:
        raise _failure(error) from error


def _wait_for_first() -> None:
    """On every machine but the first, wait until that one is there; torch would, but deaf to Ctrl-C and with pages of warnings.

    Raises:
        UserError: Its name is not known, or it does not answer.
    """
    address, port = (os.environ.get(name, "") for name in FIRST)
    if os.environ.get("PET_NODE_RANK", "0") == "0" or not address or not port.isdecimal():
        return
    place, end = f"the first machine at {address}:{port}", time.monotonic() + MEETING_SECONDS
    silent = True
    while True:
        try:
            socket.create_connection((address, int(port)), timeout=5).close()
        except socket.gaierror as error:
            msg = f"{FIRST[0]}: {address}: {error.strerror}; give the name or address of the first machine"
            raise UserError(msg) from error
        except OSError as error:
            if time.monotonic() > end:
                msg = f"{FIRST[0]}: {place} does not answer ({error.strerror or error}); start the training there too, and look at the address"
                raise UserError(msg) from error
            if silent:
                silent = False
                Console(highlight=False, soft_wrap=True).print(f"waiting for {place}")
            time.sleep(1)
        else:
            return


def _failure(error: Exception) -> UserError:
    rank, failure = error.get_first_failure()  # type: ignore[attr-defined]
    code = failure.exitcode
    if code < 0:
        name = signal.Signals(-code).name
        return UserError(f"train: rank {rank} was ended by {name}, so all were stopped; {GO_ON}")
    if code > 128:
        number = signal.Signals(code - 128)
        return InterruptedRunError(f"train: {number.name}; all processes have ended", number)
    return UserError(
        f"train: rank {rank} has failed (exit code {code}), and all were stopped; see above"
    )
