"""Start the train stage once per device, by torchrun's own launcher.

Imports no torch at first: the stage sets the processor's settings before.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
import traceback
import uuid
from typing import TYPE_CHECKING

from pipeline_lib.errors import InterruptedRunError, UserError, in_one_line
from pipeline_lib.parent import end_with_parent
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Train

RANK = "RANK"  # torchrun's names of environment variables
LOCAL_RANK = "LOCAL_RANK"
PATIENCE = 10  # s, in which another rank, or the launcher, says what has gone wrong
MODULE = "stages.train"
SEVERAL = "PET_NNODES"  # torchrun's name for how many machines there are
# Torchrun's, of a meeting at the first machine. Of its other ways to meet it takes care itself.
ADDRESS, PORT, NODE = "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NODE_RANK"
ELSEWHERE = "PET_RDZV_ENDPOINT"
MEETING_SECONDS = 900  # as long as torch waits
GO_ON = "run the same command again to go on from the last saved state"
FROM_OUTSIDE = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)  # others tell of an error within


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
        return gpus if gpus > 1 else int(SEVERAL in os.environ)
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
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    logging.disable(logging.CRITICAL)  # its reports of what the stage says itself
    options = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={uuid.uuid4()}"]
    options.append(
        "--local-addr=localhost"
    )  # else its own name, which it may not be able to resolve
    if SEVERAL in os.environ:  # torchrun reads all that it needs from there
        options = []
        _meet()
        # Until torch's launcher, which waits for all the others, sets its own.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
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
    except DistError as error:
        msg = f"train: the machines have not met ({in_one_line(error)}); start the training on each, and look at {ADDRESS}"
        raise UserError(msg) from error


def _meet() -> None:
    """See that the machines will find each other; torch would wait for it deaf to Ctrl-C, and end in pages of warnings.

    Raises:
        UserError: A variable is wrong, or the first machine does not answer.
    """
    static = os.environ.get("PET_RDZV_BACKEND", "static") == "static"
    if not static or ELSEWHERE in os.environ or os.environ[SEVERAL] == "1":
        return
    address, port, node = (os.environ.get(name, "") for name in (ADDRESS, PORT, NODE))
    if not address:
        msg = f"{ADDRESS}: name the first machine, by the address at which the others reach it"
        raise UserError(msg)
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        msg = f"{PORT}: {port or 'not set'}; choose a port that is free on the first machine, like 29400"
        raise UserError(msg)
    if not node.isdecimal():
        msg = f"{NODE}: {node or 'not set'}; number the machines from 0, which is the one of {ADDRESS}"
        raise UserError(msg)
    if int(node):
        _wait_for_first(address.strip("[]"), int(port))
        return
    _refuse_loopback(address)
    _refuse_taken(int(port))
    say("waiting for the other machines")


def _wait_for_first(address: str, port: int) -> None:
    place, end = f"the first machine at {address}:{port}", time.monotonic() + MEETING_SECONDS
    silent = True
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
        except (OSError, UnicodeError) as error:
            unknown = isinstance(error, UnicodeError) or (
                isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
            )
            if unknown or time.monotonic() > end:
                why = getattr(error, "strerror", None) or error
                msg = f"{ADDRESS}: {place} does not answer ({why}); start the training there too, and look at the address"
                raise UserError(msg) from error
            if silent:
                silent = False
                say(f"waiting for {place}")
            time.sleep(1)
        else:
            return


def _refuse_loopback(address: str) -> None:
    """On the first machine: its name has to be one that leads the others to it.

    Raises:
        UserError: It leads back to where it is asked for, as own host names do on Debian and Ubuntu.
    """
    try:
        found = socket.getaddrinfo(address.strip("[]"), None)[0][4][0]
    except (OSError, UnicodeError) as error:
        msg = f"{ADDRESS}: {address}: {getattr(error, 'strerror', None) or error}; give an address of this machine"
        raise UserError(msg) from error
    meant = address in {found, "localhost"}
    if ipaddress.ip_address(str(found).partition("%")[0]).is_loopback and not meant:
        msg = f"{ADDRESS}: {address} is {found} on this machine itself; give its address in the network (`ip address`)"
        raise UserError(msg)


def _refuse_taken(port: int) -> None:
    """On the first machine: the others come to this port.

    Raises:
        UserError: It is not to be had.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch does
            probe.bind(("", port))
    except OSError as error:
        msg = (
            f"{PORT}: {port}: {error.strerror} on this machine; choose another one, on all machines"
        )
        raise UserError(msg) from error


def _failure(error: Exception) -> UserError:
    rank, failure = error.get_first_failure()  # type: ignore[attr-defined]
    code = failure.exitcode
    if code < 0:
        number = signal.Signals(-code)
        advice = GO_ON if number in FROM_OUTSIDE else "see above"
        return UserError(
            f"train: rank {rank} was ended by {number.name}, so all were stopped; {advice}"
        )
    if code > 128:
        number = signal.Signals(code - 128)
        return InterruptedRunError(f"train: {number.name}; all processes have ended", number)
    return UserError(
        f"train: rank {rank} has failed (exit code {code}), and all were stopped; see above"
    )
