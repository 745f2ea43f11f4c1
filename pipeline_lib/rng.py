"""Randomness as a pure function of the seed, a purpose, and counters.

Nothing in the project seeds a global generator or stores a generator's state: step 1000 draws the
same numbers whether or not steps 0 to 999 ran in this process, so resuming is exact, and a changed
augmentation cannot change a split.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

Counter: TypeAlias = int | str


def derive_seed(seed: int, purpose: str, *counters: Counter) -> int:
    """Hash `(seed, purpose, *counters)` to 63 bits, the same in every process and version."""
    text = "\x1f".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, *counters: Counter) -> np.random.Generator:
    """NumPy generator for one purpose, for example `generator(seed, "candidates")`."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *counters)))


def torch_generator(seed: int, purpose: str, *counters: Counter) -> torch.Generator:
    """Torch generator on the CPU for one purpose.

    Always on the CPU, whatever the training device: CPU and GPU runs then see the same views.
    """
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


@contextlib.contextmanager
def seeded_layers(seed: int, purpose: str, *counters: Counter) -> Iterator[None]:
    """Seed torch's global generators inside, for layers that know no other (initialisation, dropout).

    The CPU generator is put back afterwards; a GPU's is only ever used inside such a block.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose, *counters))
        yield


@dataclass(frozen=True)
class StepRng:
    """The generators of one training step: `rng("mixup")` is `("mixup", step)` under the seed."""

    seed: int
    step: int

    def __call__(self, purpose: str, *counters: Counter) -> torch.Generator:
        """Generator for `purpose` at this step."""
        return torch_generator(self.seed, purpose, self.step, *counters)
