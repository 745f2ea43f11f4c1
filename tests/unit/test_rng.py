"""Randomness is a function of the seed, the purpose and the counters, and of nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.rng import StepRng, derive_seed, generator, seeded_layers, torch_generator

# Literal numbers: another one here means other splits and other weights for the same seed.
GOLDEN = [
    ((0, "split"), 3692668185207323792),
    ((1, "candidates"), 5286987282335106809),
    ((1, "order", 7), 7602499310146789171),
    ((2**40, "augment", 3, "x"), 5111097010167052939),
]


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN)
def test_seeds_are_these_in_every_process_and_version(arguments, expected):
    hashed = hashlib.blake2b("\x1f".join(map(str, arguments)).encode(), digest_size=8).digest()
    number = sum(byte << (8 * place) for place, byte in enumerate(hashed))
    assert derive_seed(*arguments) == expected == number // 2


@given(st.integers(0, 2**64), st.text("ab/\x1f\u00e9"), st.lists(st.integers(0, 2**40), max_size=3))
def test_every_seed_fits_torch_and_numpy(seed, purpose, counters):
    assert 0 <= derive_seed(seed, purpose, *counters) < 2**63


def test_arguments_do_not_run_into_each_other():
    arguments = [
        (1, "a", "b"),
        (1, "ab"),
        (1, "a"),
        (1, "b", "a"),
        (1, "a", 1),
        (1, "a1"),
        (11, "a"),
        (1, "a", 1, 1),
        (1, "a", 11),
    ]
    assert len({derive_seed(*each) for each in arguments}) == len(arguments)


def draws_of_numpy(*arguments):
    return generator(*arguments).integers(0, 2**62, 4).tolist()


def draws_of_torch(*arguments):
    return torch.randint(2**62, (4,), generator=torch_generator(*arguments)).tolist()


@pytest.mark.parametrize("draws", [draws_of_numpy, draws_of_torch])
def test_generators_repeat_themselves_and_differ_from_each_other(draws):
    arguments = [(1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1, "a", 1), (1, "a", 0, 1)]
    first = [draws(*each) for each in arguments]
    np.random.default_rng(0).random()  # drawing elsewhere changes nothing
    torch.rand(1)
    assert [draws(*each) for each in arguments] == first
    assert len({tuple(numbers) for numbers in first}) == len(arguments)


def test_a_step_draws_the_same_whichever_steps_came_before():
    rng = StepRng(seed=1, step=1000)
    expected = torch.rand(3, generator=torch_generator(1, "mixup", 1000, 2))
    torch.rand(1, generator=rng("mixup"))
    assert torch.equal(torch.rand(3, generator=rng("mixup", 2)), expected)


def test_seeded_layers_put_the_global_generator_back():
    before = torch.random.get_rng_state()
    with seeded_layers(1, "weights"):
        first = torch.nn.Linear(3, 2).weight
    assert torch.equal(torch.random.get_rng_state(), before)

    torch.rand(5)
    moved = torch.random.get_rng_state()
    made = []

    def fail_in_the_middle():
        with seeded_layers(1, "weights"):
            made.append(torch.nn.Linear(3, 2).weight)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()
    assert torch.equal(torch.random.get_rng_state(), moved)
    torch.random.set_rng_state(before)
    assert torch.equal(first, made[0])
