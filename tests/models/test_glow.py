"""Glow's layers: inverses, determinants, scales of which none is lost."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from model_cases import DIGITS, batch, context, make
from torch import nn

from niwaki.compression import prune
from niwaki.core.contract import Batch, CallError, DataSpec
from niwaki.models.flow.image_layers import (
    ChannelNorm,
    ConvCoupling,
    InvertibleMix,
    Scale,
    Squeeze,
)
from niwaki.models.flow.networks import ConvNetwork
from niwaki.models.flow.transforms import Affine, Spline

SHAPE = (4, 4, 6)
WIDE = 120  # values of a sample: 96 in work, the rest is split off


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    found = {
        "squeeze": Squeeze(SHAPE),
        "norm": ChannelNorm(SHAPE),
        "mix": InvertibleMix(SHAPE),
        "mix of many": InvertibleMix((11, 2, 3)),
        "mix of one": InvertibleMix((1, 4, 4)),
        "affine": ConvCoupling(SHAPE, Affine(), partial(ConvNetwork, width=8, classes=3)),
        "spline": ConvCoupling((3, 4, 6), Spline(4), partial(ConvNetwork, width=8, classes=3)),
        "scale": Scale(SHAPE, [Squeeze(SHAPE), ChannelNorm((16, 2, 3)), InvertibleMix((16, 2, 3))]),
    }
    for layer in found.values():
        for p in layer.parameters():
            nn.init.normal_(p, std=0.3)
    return found


@pytest.mark.parametrize("name", list(layers()))
def test_a_layer_comes_back_and_leaves_what_was_split_off(name: str) -> None:
    layer, y = layers()[name].double(), torch.arange(5) % 3
    x = torch.randn(5, WIDE, dtype=torch.float64)
    z, _ = layer(x, y)
    torch.testing.assert_close(layer.inverse(z, y), x, atol=1e-10, rtol=1e-10)
    assert torch.equal(z[:, layer.size :], x[:, layer.size :])
    assert not torch.equal(z[:, : layer.size], x[:, : layer.size])


@pytest.mark.parametrize("name", list(layers()))
def test_its_log_determinant_is_that_of_the_jacobian(name: str) -> None:
    layer, y = layers()[name].double(), torch.tensor([1])
    x = torch.randn(WIDE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None], y)[0][0], x)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(layer(x[None], y)[1][0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 16])
def test_the_inverse_of_the_mix_is_that_of_its_matrix(channels: int) -> None:
    torch.manual_seed(0)
    mix = InvertibleMix((channels, 2, 2))
    for p in mix.parameters():
        nn.init.normal_(p, std=0.5)
    weight, inverse, logdet = mix.double().constants()
    torch.testing.assert_close(inverse, torch.linalg.inv(weight), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(logdet, 4 * torch.linalg.slogdet(weight).logabsdet, atol=1e-9, rtol=1e-9)


def test_under_autocast_values_keep_their_digits() -> None:
    """Rounded to bfloat16 they would not come back."""
    mix, x = InvertibleMix(SHAPE), torch.randn(3, *SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mix.move(x, None)[0], InvertibleMix._mixed(mix, mix.constants()[0], x))
        torch.testing.assert_close(mix.back(mix.move(x, None)[0], None), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["norm", "mix", "scale"])
def test_folded_constants_change_nothing(name: str) -> None:
    layer, x = layers()[name], torch.randn(3, WIDE)
    y = torch.zeros(3, dtype=torch.int64)
    before = layer(x, y), layer.inverse(x, y)
    for part in layer.modules():
        if hasattr(part, "fold_constants"):
            part.fold_constants()
            for p in part.parameters():  # from now on its weights no longer count
                if p is not getattr(part, "shift", None):
                    nn.init.normal_(p)
    for old, new in zip((*before[0], before[1]), (*layer(x, y), layer.inverse(x, y)), strict=True):
        torch.testing.assert_close(old, new)


def test_the_mix_starts_as_a_rotation_and_mixes_channels_alone() -> None:
    torch.manual_seed(1)
    mix = InvertibleMix(SHAPE)
    x = torch.randn(3, *SHAPE)
    z, logdet = mix.move(x, None)
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logdet, torch.zeros(3), atol=1e-4, rtol=0)
    moved, _ = mix.move(x.flip(2), None)
    torch.testing.assert_close(moved, z.flip(2))


def test_squares_of_pixels_become_channels() -> None:
    squeeze = Squeeze((1, 2, 4))
    z, _ = squeeze.move(torch.arange(8.0).view(1, 1, 2, 4), None)
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert z[0, :, 0, 1].tolist() == [2, 3, 6, 7]


def test_channels_start_with_mean_0_and_variance_1() -> None:
    norm, x = ChannelNorm(SHAPE), 5 + 3 * torch.randn(200, WIDE)
    with torch.no_grad():
        norm.begin(x)
    z = norm.image(norm(x)[0]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(1), torch.ones(4), atol=2e-3, rtol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("coupling", ["affine", "additive", "spline"])
def test_all_latents_lead_back_also_when_pruned(coupling: str, ratio: float) -> None:
    """The parts that each scale splits off are latents as well (a well-known fault throws them away)."""
    model = make("glow", coupling=coupling)
    if ratio:
        model = prune(model, ratio=ratio, min_width=4, round_to=4)
    data = batch(DIGITS, 24)
    x, y = data.x, data["class"]
    with torch.no_grad():
        model.begin_stage(context(), lambda k: Batch({n: v[k % 8 :: 8] for n, v in data.items()}))
        z = model.encode(x, y)
        assert z.shape == (24, 64)
        assert (z.std(0) > 0).all(), "every value of z says something"
        torch.testing.assert_close(model.inverse(z, y), x, atol=2e-5, rtol=0)
        model.double()
        flow = [torch.randn(6, 64, dtype=torch.float64)]
        for layer in model.flow:
            flow.append(layer(flow[-1], y[:6])[0])
        back = flow[-1]
        for layer in reversed(model.flow):
            back = layer.inverse(back, y[:6])
    torch.testing.assert_close(back, flow[0], atol=1e-9, rtol=1e-9)


def test_images_that_cannot_be_halved_so_often_are_refused() -> None:
    with pytest.raises(CallError, match="12×8 cannot be halved 3 times"):
        make("glow", DataSpec.of("image", (1, 12, 8)), levels=3)
