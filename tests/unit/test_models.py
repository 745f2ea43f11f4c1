"""The backbones are what their names say, and a saved predictor comes back as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from pipeline_lib.apply.folding import fold_batch_norms
from pipeline_lib.errors import UserError
from pipeline_lib.models.batch_norm import batch_norms, groupable
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.predictor import Predictor, in_passes, load_predictor, save_predictor
from pipeline_lib.models.ranks import Ranks
from pipeline_lib.models.torchvision_models import AveragePool
from pipeline_lib.models.weights import load_weights
from pipeline_lib.params.model_names import OWN_MODELS, check_model_name, torchvision_classifiers
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.distributed import refuse_own_randomness

SMALL = Architecture(
    name="small_cnn",
    width=8,
    alpha=1.0,
    dropout=0.0,
    stem="auto",
    bn_momentum=0.1,
    channels=3,
    image_height=32,
    image_width=32,
    num_classes=10,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
ABOUT = {
    "method": "oracle",
    "variant": "official",
    "dataset": "digits",
    "seed": 1,
    "classes": list("0123456789"),
    "resize": "stretch",
    "selected_epoch": 2,
    "snapshots": {},
}


def parameters_of(name: str) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build(replace(SMALL, name=name)).parameters()) / 1e6


@pytest.mark.parametrize(("name", "millions"), [("wrn_28_2", 1.47), ("wrn_34_10", 46.16)])
def test_wide_resnets_have_the_published_size(name: str, millions: float) -> None:
    assert parameters_of(name) == pytest.approx(millions, abs=0.01)


def test_mobilenet_has_the_parameters_of_keras_network() -> None:
    with torch.device("meta"):
        model = build(replace(SMALL, name="mobilenet_v1", stem="original"))
    trained = sum(p.numel() for p in model.parameters())
    running = [b for name, b in model.named_buffers() if "running" in name]
    assert trained == 3_217_226
    assert trained + sum(b.numel() for b in running) == 3_239_114


@pytest.mark.parametrize(("alpha", "features"), [(0.25, 256), (1.0, 1024), (0.001, 1)])
def test_the_width_multiplier_scales_every_layer_of_mobilenet(alpha: float, features: int) -> None:
    model = build(replace(SMALL, name="mobilenet_v1", alpha=alpha))
    assert model.encoder.width == model.head.in_features == features
    first = model.encoder.layers[0][0]
    assert first.out_channels == max(int(32 * alpha), 1)


@pytest.mark.parametrize(
    ("stem", "side", "left"),
    [("original", 32, 1), ("small", 32, 2), ("auto", 64, 4), ("auto", 96, 3), ("auto", 8, 1)],
)
def test_mobilenets_stem_halves_the_images_or_not(stem: str, side: int, left: int) -> None:
    arch = replace(SMALL, name="mobilenet_v1", stem=stem, image_height=side, image_width=side)
    encoder = build(replace(arch, alpha=0.25)).encoder
    with torch.no_grad():
        assert encoder.layers(torch.zeros(2, 3, side, side)).shape == (2, 256, left, left)


def test_mobilenet_trains_where_its_map_is_one_pixel() -> None:
    model = build(replace(SMALL, name="mobilenet_v1", stem="original", alpha=0.25)).train()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    model(images).logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OWN_MODELS)
def test_logits_are_float32_whatever_the_precision(name: str, channels: int) -> None:
    statistics = (0.5,) * channels
    model = build(replace(SMALL, name=name, channels=channels, mean=statistics, std=statistics))
    images = torch.randint(0, 256, (4, channels, 32, 32), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.shape == (4, 10)
    assert logits.dtype == torch.float32
    assert model.features(images).shape == (4, model.encoder.width)
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "densenet121", "shufflenet_v2_x0_5"]
)
def test_torchvision_classifiers_take_small_gray_images(name: str) -> None:
    gray = replace(SMALL, name=name, channels=1, mean=(0.5,), std=(0.5,), num_classes=7)
    model = build(gray).eval()
    assert model(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape == (2, 7)


def test_the_small_stem_keeps_the_resolution() -> None:
    small = build(replace(SMALL, name="resnet18")).encoder.network
    original = build(replace(SMALL, name="resnet18", stem="original")).encoder.network
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, torch.nn.Identity)
    assert original.conv1.kernel_size == (7, 7)


def test_normalisation_is_inside() -> None:
    model = build(SMALL)
    assert torch.equal(model.mean.flatten(), torch.full((3,), 127.5))
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((2, 3, 32, 32), 255, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.full((2, 3, 32, 32), 2.0))


def test_lenet_refuses_images_that_it_would_shrink_to_nothing() -> None:
    with pytest.raises(UserError, match=r"lenet needs images of at least 16x16, these are 8x8"):
        build(replace(SMALL, name="lenet", image_height=8, image_width=8))


@pytest.mark.parametrize("name", ["vgg11", "vit_b_16", "convnext_tiny"])
def test_a_network_that_cannot_take_the_images_is_refused(name: str) -> None:
    tiny = replace(SMALL, name=name, image_height=8, image_width=8)
    with pytest.raises(UserError, match=f"model.name: {name} cannot take images of 8x8 pixels"):
        build(tiny)


@pytest.mark.parametrize("side", [1, 2, 6, 7, 8, 20])
@pytest.mark.parametrize("out", [(7, 7), (6, 6), (3, 5)])
def test_average_pooling_is_torchs_with_a_gradient_that_a_gpu_can_repeat(side, out) -> None:
    maps_BCHW = torch.randn(2, 3, side, side + 1, dtype=torch.float64, requires_grad=True)
    ours, torchs = AveragePool(out)(maps_BCHW), nn.AdaptiveAvgPool2d(out)(maps_BCHW)
    torch.testing.assert_close(ours, torchs)
    weights = torch.randn_like(torchs)
    gradients = [torch.autograd.grad((p * weights).sum(), maps_BCHW)[0] for p in (ours, torchs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "resnet18"])
def test_no_network_pools_in_a_way_that_a_gpu_cannot_repeat(name) -> None:
    model = build(replace(SMALL, name=name, image_height=64, image_width=64))
    pools = [m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    assert all(pool.output_size in {1, (1, 1)} for pool in pools)


@pytest.mark.parametrize(
    ("name", "left"), [("small_cnn", 0), ("mobilenet_v1", 0), ("mobilenet_v2", 0), ("wrn_28_2", 25)]
)
def test_folded_batch_norms_change_rounding_only(name: str, left: int) -> None:
    network = build(replace(SMALL, name=name))
    for norm in batch_norms(network):
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            values.data.uniform_(0.5, 1.5)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    before = network.eval()(images)
    fold_batch_norms(network)
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-4)
    assert len(batch_norms(network)) == left


@pytest.mark.parametrize(("side", "size"), [(8, 1024), (64, 1024), (224, 83), (1024, 8)])
def test_large_images_are_predicted_fewer_at_a_time(side: int, size: int) -> None:
    images = torch.empty(2050, 1, side, side, dtype=torch.uint8, device="meta")
    parts = in_passes(images)
    assert len(parts[0]) == size
    assert sum(map(len, parts)) == 2050


def test_torchvision_names_are_those_torchvision_builds() -> None:
    from torchvision import models

    listed = set(models.list_models(module=models))
    assert torchvision_classifiers() == listed


def test_an_unknown_model_is_named_with_the_closest() -> None:
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        check_model_name("resnt18")


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        with seeded_layers(seed, "weights"):
            return torch.cat([p.flatten() for p in build(SMALL).parameters()])

    state = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is put back"


def test_a_saved_predictor_predicts_the_same(tmp_path: Path) -> None:
    predictor = Predictor(build(SMALL)).eval()
    save_predictor(tmp_path, predictor.state_dict(), {"kind": "softmax"}, SMALL, ABOUT)
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(load_predictor(tmp_path)(images), predictor(images))
    torch.set_default_dtype(torch.float64)  # as whoever calls it may have
    try:
        loaded = load_predictor(tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(loaded(images), predictor(images))


def test_a_network_whose_layers_have_versions_is_loaded_from_its_weights_alone(
    tmp_path: Path,
) -> None:
    """MNASNet of torchvision refuses weights that do not say of which version they are."""
    architecture = replace(SMALL, name="mnasnet0_5")
    predictor = Predictor(build(architecture)).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    save_predictor(tmp_path, predictor.state_dict(), {"kind": "softmax"}, architecture, ABOUT)
    assert torch.equal(load_predictor(tmp_path)(images), predictor(images))
    other = Predictor(build(architecture)).eval()
    load_weights(other, dict(predictor.state_dict()))
    assert torch.equal(other(images), predictor(images))


def test_row_22_a_damaged_predictor_is_refused(tmp_path: Path) -> None:
    save_predictor(
        tmp_path, Predictor(build(SMALL)).state_dict(), {"kind": "softmax"}, SMALL, ABOUT
    )
    weights = tmp_path / "predictor.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"predictor\.safetensors: damaged"):
        load_predictor(tmp_path)


def test_row_22_a_predictor_with_weights_of_another_network_is_refused(tmp_path: Path) -> None:
    other = Predictor(build(replace(SMALL, width=4)))
    save_predictor(tmp_path, other.state_dict(), {"kind": "softmax"}, SMALL, ABOUT)
    with pytest.raises(UserError, match="not the weights of the network"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("layer", [nn.Dropout2d(0.3), nn.RReLU(), StochasticDepth(0.1, "row")])
def test_layers_that_draw_for_a_part_of_the_batch_are_for_one_process(layer: nn.Module) -> None:
    ranks = Ranks(0, 2)
    refuse_own_randomness(nn.Sequential(layer), None)
    refuse_own_randomness(groupable(nn.Sequential(nn.Dropout(0.3))), ranks)
    with pytest.raises(UserError, match=rf"train\.devices: the network has {type(layer).__name__}"):
        refuse_own_randomness(nn.Sequential(layer), ranks)
