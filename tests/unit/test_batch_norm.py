"""Batch statistics: of groups, left alone where asked, and measured anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline_lib.models.batch_norm import (
    groupable,
    in_groups,
    one_group_at_a_time,
    refresh_statistics,
)
from pipeline_lib.models.classifier import Classifier
from pipeline_lib.models.small_cnn import SmallCnn


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def make_batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 6, 6, generator=generator) + number for number in range(count)]


def passed_by_parts(network: nn.Module, parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([network(part) for part in parts])


def test_a_pass_in_groups_is_one_pass_after_the_other() -> None:
    one, other = make_network().train(), groupable(make_network().train())
    batches = make_batches(3)
    with in_groups(other, 3):
        together = other(torch.cat(batches))
    torch.testing.assert_close(together, passed_by_parts(one, batches))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(other[1], name), getattr(one[1], name))
    together.square().sum().backward()
    passed_by_parts(one, batches).square().sum().backward()
    for ours, theirs in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("recorded", [0, 1, 2])
def test_only_the_first_groups_are_recorded(recorded: int) -> None:
    one, other = make_network().train(), groupable(make_network().train())
    batches = make_batches(3)
    with in_groups(other, 3, recorded):
        other(torch.cat(batches))
    for batch in batches[:recorded]:
        one(batch)
    torch.testing.assert_close(other[1].running_mean, one[1].running_mean)
    torch.testing.assert_close(other[1].running_var, one[1].running_var)


@pytest.mark.parametrize("recorded", [None, 0, 1])
def test_on_a_processor_groups_go_through_one_at_a_time(recorded: int | None) -> None:
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    sizes: list[int] = []

    def outcome(one_at_a_time: bool) -> list[torch.Tensor | None]:
        torch.manual_seed(0)
        classifier = groupable(Classifier(SmallCnn(3, 4, 0.0, 0.1), 2, [0.5] * 3, [0.2] * 3))
        classifier.double().train().encoder.register_forward_hook(
            lambda _module, inputs, _output: sizes.append(len(inputs[0]))
        )
        with in_groups(classifier, 3, recorded):
            features_BD = (classifier.features if one_at_a_time else classifier._embed)(images)
        features_BD.pow(3).sum().backward()
        gradients = [parameter.grad for parameter in classifier.encoder.parameters()]
        return [features_BD, *gradients, *classifier.encoder.buffers()]

    for one, other in zip(outcome(True), outcome(False), strict=True):
        torch.testing.assert_close(one, other)
    assert sizes == [4, 4, 4, 12]


@pytest.mark.parametrize("recorded", [None, 0, 1])
@pytest.mark.parametrize("shape", [(12, 4, 5, 5), (12, 4)])
def test_what_the_compiler_sees_is_the_same(
    shape: tuple[int, ...], recorded: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    weights, outcomes = torch.rand(4), []
    images = torch.randn(shape) * 3 + 1
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda value=compiling: value)
        layer, x = groupable(kind(4)), images.clone().requires_grad_()
        layer.weight.data.copy_(weights)
        with in_groups(layer, 3, recorded):
            out = layer(x)
        out.pow(3).sum().backward()
        outcomes.append([out, x.grad, layer.weight.grad, layer.running_mean, layer.running_var])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_in_evaluation_groups_change_nothing() -> None:
    network, (batch,) = groupable(make_network()).eval(), make_batches(1)
    with in_groups(network, 2):
        assert torch.equal(network(batch), make_network().eval()(batch))


def test_groups_end_with_an_error() -> None:
    network = groupable(make_network())
    with pytest.raises(KeyError), in_groups(network, 2):
        raise KeyError
    assert network[1].groups == 1


def test_a_pass_that_fails_leaves_no_groups() -> None:
    network = groupable(make_network().train())
    with pytest.raises(RuntimeError), in_groups(network, 2):
        one_group_at_a_time(network, network, torch.zeros(4, 1, 6, 6))  # one channel, not three
    assert network[1].groups == 1
    assert network[1].recorded is None


@pytest.mark.parametrize("training", [True, False])
def test_refreshed_statistics_are_the_mean_over_the_batches(training: bool) -> None:
    network, batches = groupable(make_network()).train(training), make_batches(3)
    refresh_statistics(network, batches)
    maps = [network[0](batch) for batch in batches]
    mean = torch.stack([m.mean(dim=(0, 2, 3)) for m in maps]).mean(dim=0)
    var = torch.stack([m.var(dim=(0, 2, 3)) for m in maps]).mean(dim=0)
    torch.testing.assert_close(network[1].running_mean, mean)
    torch.testing.assert_close(network[1].running_var, var)
    assert network.training is training
    assert network[1].momentum == 0.1
