"""Equalized learning rate, pixel norm and modulated convolutions against plain layers and loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from niwaki.nn.layers.equalized import clip_weights, equalized
from niwaki.nn.layers.modulated import ModulatedConv
from niwaki.nn.layers.pixel_norm import PixelNorm

LAYERS = {
    "linear": lambda: nn.Linear(6, 5),
    "without-bias": lambda: nn.Linear(6, 5, bias=False),
    "conv": lambda: nn.Conv2d(6, 5, 3, padding=1),
    "strided": lambda: nn.Conv2d(6, 5, 4, stride=2, padding=1),
    "grouped": lambda: nn.Conv2d(6, 4, 3, groups=2),
}


def given(layer: nn.Module) -> torch.Tensor:
    return (
        torch.randn(3, 6, dtype=torch.float64)
        if isinstance(layer, nn.Linear)
        else torch.randn(3, 6, 8, 8, dtype=torch.float64)
    )


@pytest.mark.parametrize("rate", [1.0, 0.01])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_an_equalized_layer_is_the_plain_one_with_scaled_weights(make, rate: float) -> None:
    """Forward equal; a gradient is that of the plain weight times the scale."""
    torch.manual_seed(0)
    layer, plain = equalized(make().double(), 1.5, rate=rate, bias=0.25), make().double()
    scale = 1.5 * rate / math.sqrt(plain.weight[0].numel())
    original = layer.parametrizations.weight.original
    with torch.no_grad():
        plain.weight.copy_(scale * original)
        if plain.bias is not None:
            plain.bias.fill_(0.25)
    x = given(plain)
    out, expected = layer(x), plain(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(layer.weight, plain.weight)
    out.square().sum().backward()
    expected.square().sum().backward()
    assert plain.weight.grad is not None
    torch.testing.assert_close(original.grad, scale * plain.weight.grad)
    if plain.bias is not None:
        assert plain.bias.grad is not None
        held = dict(layer.named_parameters())["bias" if rate == 1 else "parametrizations.bias.original"]
        torch.testing.assert_close(held.grad, rate * plain.bias.grad)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_what_it_computes_at_first_does_not_depend_on_the_rate(rate: float) -> None:
    """Variance gain² for inputs of variance 1, bias as asked."""
    torch.manual_seed(0)
    layer = equalized(nn.Linear(512, 512), 2.0, rate=rate, bias=3.0)
    out = layer(torch.randn(256, 512)).detach()
    assert float(out.mean()) == pytest.approx(3.0, abs=0.05)
    assert float(out.std()) == pytest.approx(2.0, rel=0.03)


def test_a_step_of_adam_moves_wide_and_narrow_layers_by_the_same_share() -> None:
    """Which plain layers do not: there a step is a larger share of smaller weights."""
    shares = []
    for inputs in (4, 64, 1024):
        layer = equalized(nn.Linear(inputs, 8, bias=False))
        before = layer.weight.detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
        layer(torch.randn(16, inputs)).square().sum().backward()
        optimizer.step()
        shares.append(float((layer.weight.detach() - before).std() / before.std()))
    assert max(shares) / min(shares) < 1.3


def test_weights_are_clipped_as_they_are_used() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        equalized(nn.Linear(64, 8)), equalized(nn.Linear(8, 8), rate=0.01), nn.Linear(8, 2)
    )
    clip_weights(network, 0.05)
    largest = [float(layer.weight.detach().abs().max()) for layer in network]  # type: ignore[union-attr, operator]
    assert largest == pytest.approx([0.05] * 3, rel=1e-5)


def test_spectral_norm_stands_on_top() -> None:
    layer = spectral_norm(equalized(nn.Linear(16, 16), 5.0), n_power_iterations=200)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shape", [(4, 7), (4, 7, 3, 3)])
def test_pixel_norm_brings_every_place_to_a_mean_square_of_one(shape: tuple[int, ...]) -> None:
    x = 5 * torch.randn(shape)
    found = PixelNorm()(x)
    torch.testing.assert_close(found.square().mean(1), torch.ones(found[:, 0].shape))
    torch.testing.assert_close(found * x.square().mean(1, keepdim=True).sqrt(), x)


def test_a_modulated_convolution_is_a_kernel_for_every_sample() -> None:
    """Equations 1 and 3 of StyleGAN2, sample by sample."""
    torch.manual_seed(0)
    for demodulate in (True, False):
        layer = ModulatedConv(6, 5, 3, 4, demodulate=demodulate, gain=1.5).double()
        x, w = torch.randn(3, 6, 5, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
        found, styles = layer(x, w), layer.style(w)
        for i in range(3):
            kernel = layer.conv.weight * styles[i][None, :, None, None]
            if demodulate:
                kernel = 1.5 * kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            torch.testing.assert_close(found[i : i + 1], F.conv2d(x[i : i + 1], kernel, padding=1))


@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
@pytest.mark.parametrize("strength", [0.01, 1.0, 30.0])
def test_demodulation_keeps_the_variance_whatever_the_style(gain: float, strength: float) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(64, 48, 3, 8, gain=gain)
    out = layer(torch.randn(32, 64, 16, 16), strength * torch.randn(32, 8))[:, :, 1:-1, 1:-1]
    per_sample = out.detach().std((1, 2, 3))
    torch.testing.assert_close(per_sample, torch.full_like(per_sample, gain), rtol=0.1, atol=0)
    assert float(out.detach().std()) == pytest.approx(gain, rel=0.02)
