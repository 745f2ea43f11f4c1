"""The same bits again: what must be set before torch is imported, and after.

Imports no torch itself.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from pipeline_lib.errors import UserError

# With these three and one thread, training gives the same weights on processors of different makers
# and generations (any x86-64 with AVX2): the libraries then take the same code path everywhere.
ANY_CPU = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
}
CPUINFO = Path("/proc/cpuinfo")
BF16 = {"avx512_bf16", "amx_bf16"}  # what a processor with bf16 of its own says there


def pin_processor(reproducible: str, threads: int) -> None:
    """Set the environment of the numerical libraries; to be called before torch is imported.

    Args:
        reproducible: `any_cpu` pins the instruction sets, `this_machine` leaves the fastest.
        threads: for OpenMP and MKL.

    Raises:
        UserError: Torch is there already, and may have taken other instruction sets.
    """
    pinned = ANY_CPU.items() <= os.environ.items()
    if reproducible == "any_cpu" and "torch" in sys.modules and not pinned:
        msg = (
            "torch was imported before train.reproducible: any_cpu could be seen to; run the stage in a process of its own, "
            "as with `python -m stages.train`"
        )
        raise UserError(msg)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    if reproducible == "any_cpu":
        os.environ.update(ANY_CPU)


def processor() -> str:
    """The processor's name, as Linux tells it, or its kind."""
    said = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    names = re.findall(r"model name\s*:\s*(.*)", said)
    return names[0] if names else platform.machine()


def emulated_bf16(reproducible: str) -> str | None:
    """Why bf16 is slower than fp32 on this processor, in a line; None where it is not, or nobody tells."""
    if reproducible == "any_cpu":
        why = "train.reproducible: any_cpu keeps to AVX2; set it to this_machine, or take fp32"
    elif CPUINFO.exists() and not BF16 & set(CPUINFO.read_text(encoding="utf-8").split()):
        why = "the processor has neither avx512_bf16 nor AMX; take fp32"
    else:
        return None
    return f"train.precision: bf16 is emulated here, several times slower than fp32: {why}"


def deterministic_torch(threads: int) -> None:
    """Make torch choose reproducible algorithms, or refuse operations that have none."""
    import torch

    torch.set_num_threads(threads)
    # What use_deterministic_algorithms(True) does, which imports the compiler first (5 seconds) to set what
    # `pin_processor` has set by the environment.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32, in convolutions too
