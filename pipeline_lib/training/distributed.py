"""Several processes that take the steps of one training together: how they meet and agree."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import time
from typing import TYPE_CHECKING, Any

import psutil
import torch
import torch.distributed as dist
from torch import nn

from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.models.batch_norm import GROUPED
from pipeline_lib.models.classifier import Classifier
from pipeline_lib.models.ranks import Ranks, add_gradients
from pipeline_lib.training.launch import LOCAL_RANK, PATIENCE, RANK
from pipeline_lib.training.resume import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

INTERFACE = "GLOO_SOCKET_IFNAME"


@contextlib.contextmanager
def met(device: torch.device) -> Iterator[Ranks | None]:
    """Within, this process has met the others that torchrun has started; None where it is alone.

    Only a good end is said to the others: over NCCL all have to take part in that, and those that wait for one
    that has failed never would (see `launch.leaving_at_once`).

    Raises:
        UserError: The others are not to be reached, or one has ended before its time, which is not this one's mistake.
    """
    if RANK not in os.environ:
        yield None
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ[LOCAL_RANK]))
    _name_interface()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except RuntimeError as error:
        if not _several_machines() or not _lost(error):
            raise
        msg = (
            f"train: the machines do not reach each other ({in_one_line(error)}); name the interface of the network that they "
            f"share on each, like {INTERFACE}=eth0 NCCL_SOCKET_IFNAME=eth0 (`ip address` lists them), and end the other ones"
        )
        raise UserError(msg) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not _lost(error):
            raise
        time.sleep(
            PATIENCE
        )  # the launcher ends this one meanwhile, and says why that one has ended
        msg = f"train: another process of this training has ended ({in_one_line(error)})"
        raise UserError(msg) from error
    dist.destroy_process_group()


def _several_machines() -> bool:
    sizes = {os.environ.get(name) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    return len(sizes) > 1


def _name_interface() -> None:
    """Let gloo speak by the interface that leads to the first machine.

    It would take that of the own host name, which may have no address, or, on Debian and Ubuntu, 127.0.1.1, where no other
    machine answers.
    """
    if INTERFACE in os.environ:
        return
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(os.environ["MASTER_ADDR"], 1, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, first = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(first)  # which sends nothing, but chooses the way
            own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if own in [address.address.partition("%")[0] for address in addresses]:
                os.environ[INTERFACE] = name


def _lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone: those of gloo, of torch's store, and of NCCL."""
    words = ("gloo", "connection closed", "broken pipe", "remote process exited")
    return isinstance(error, dist.DistNetworkError) or any(
        word in str(error).lower() for word in words
    )


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest that any rank has, of each number."""
    values = torch.tensor(numbers)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return list(map(int, values))


def from_rank(source: int, load: Callable[[], bytes], ranks: Ranks) -> bytes:
    """What `load` gives on the rank `source`, on all of them: the others may not see its disk."""
    content = bytearray(load()) if ranks.rank == source else bytearray()
    size = torch.tensor(len(content))
    dist.broadcast(size, source)
    if not int(size):
        return b""
    values = torch.frombuffer(content or bytearray(int(size)), dtype=torch.uint8)
    dist.broadcast(values, source)
    return values.numpy().tobytes()


def stop_if_other(identity: Mapping[str, Mapping[str, Any]], ranks: Ranks) -> None:
    """Compare what determines the result (see `resume.Slot`) with that of rank 0, which is recorded.

    Each machine has code, params and inputs of its own; weights and tables may be the same even so.

    Raises:
        UserError: They differ, on all ranks.
    """
    content = json.dumps(identity).encode()
    first = json.loads(from_rank(0, lambda: content, ranks))
    found = differences(json.loads(content), first)
    [other] = largest([ranks.rank if found else 0])
    if not other:
        return
    words = f"{other} ({platform.node()}) has other {listed(found, 5)}"
    words = from_rank(other, words.encode, ranks).decode()
    msg = (
        f"train: rank {words} than rank 0; take the same commit, params.yaml, data and packages on each machine, and "
        "devices of one kind"
    )
    raise UserError(msg)


@contextlib.contextmanager
def over(method: nn.Module, ranks: Ranks | None) -> Iterator[None]:
    """Within, the networks of a method embed the rows of this rank alone."""
    networks = [part for part in method.modules() if isinstance(part, Classifier)]
    for network in networks:
        network.ranks = ranks
    try:
        yield
    finally:
        for network in networks:
            network.ranks = None


def reduce_gradients(method: nn.Module, ranks: Ranks) -> None:
    """Give every parameter the gradient of the whole batch."""
    networks = [part for part in method.modules() if isinstance(part, Classifier)]
    own = {id(p): p for network in networks for p in network.encoder.parameters()}
    same = [p for p in method.parameters() if id(p) not in own]
    add_gradients(own.values(), same, ranks)


@torch.no_grad()
def stop_if_apart(state: dict[str, Tensor], ranks: Ranks) -> None:
    """Compare weights and tables of all ranks.

    Raises:
        UserError: They differ, which no rounding explains: every rank computes the same.
    """
    sums = torch.stack([value.sum(dtype=torch.float64) for value in state.values()]).cpu()
    parts = [torch.empty_like(sums) for _ in range(ranks.count)]
    dist.all_gather(parts, sums)
    names = [
        name
        for number, name in enumerate(state)
        if not all(
            torch.equal(part[number].nan_to_num(), parts[0][number].nan_to_num()) for part in parts
        )
    ]
    if names:
        msg = (
            f"train: {names[0]} is not the same in all {ranks.count} processes; take GPUs of one kind, or set "
            f"train.devices to 1"
        )
        raise UserError(msg)


# Layers that draw numbers; of these `GROUPED` has one that draws those of the whole batch.
RANDOM = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU),
)


def refuse_own_randomness(network: nn.Module, ranks: Ranks | None) -> None:
    """Refuse networks with layers that draw numbers for their part of the batch only, which ranks would do each in its own way.

    Raises:
        UserError: It is one.
    """
    own: set[type[nn.Module]] = {
        type(layer) for layer in network.modules() if isinstance(layer, RANDOM)
    }
    own |= {type(layer) for layer in network.modules() if type(layer).__name__ == "StochasticDepth"}
    if ranks and (strange := own - set(GROUPED.values())):
        names = listed(sorted(kind.__name__ for kind in strange))
        msg = f"train.devices: the network has {names}, whose random numbers one process must draw; set it to 1"
        raise UserError(msg)
