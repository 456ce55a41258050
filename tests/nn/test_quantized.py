"""Rounding to few bits: the grid, its gradients, every granularity against a slow loop, layers in place."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from niwaki.core.contract import NiwakiError
from niwaki.surgery.edits import apply_edits, edit_from_json
from niwaki.surgery.quantized import (
    LayerBits,
    Quantizer,
    fit_weights,
    freeze,
    is_quantizable,
    quantize_layer,
    quantized_layers,
)
from niwaki.surgery.quantized_edit import Quantized
from niwaki.surgery.quantized_fold import absorb
from niwaki.surgery.quantized_math import OBSERVERS, affine_scale, fake_quantize, grid, symmetric_scale

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(24, 10), (3, 24)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (2, 6, 9)),
    "conv2d": (lambda: nn.Conv2d(6, 8, 3), (2, 6, 7, 7)),
    "grouped": (lambda: nn.Conv2d(8, 16, 3, groups=4, padding_mode="reflect", padding=1), (2, 8, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(3, 4, 2), (2, 3, 4, 4, 4)),
    "transposed1d": (lambda: nn.ConvTranspose1d(6, 8, 4, 2, 1), (2, 6, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(6, 8, 4, 2, 1), (2, 6, 5, 5)),
    "transposed grouped": (lambda: nn.ConvTranspose2d(6, 8, 3, groups=2), (2, 6, 5, 5)),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 4, 2), (1, 2, 3, 3, 3)),
}


def layer(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make(), torch.randn(shape)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_rounding_twice_is_rounding_once_and_errs_by_half_a_step(bits: int, symmetric: bool) -> None:
    torch.manual_seed(bits)
    x, (low, high) = torch.randn(1, 500) + 0.5, grid(bits, symmetric=symmetric)
    zero = torch.zeros(1)
    if symmetric:
        scale = symmetric_scale(x, bits, "minmax")
    else:
        scale, zero = affine_scale(x, low, high, "minmax")
    once = fake_quantize(x, scale[:, None], zero[:, None], low, high)
    assert torch.equal(fake_quantize(once, scale[:, None], zero[:, None], low, high), once)
    # The affine zero point is rounded, too, which may push either end out by half a step more.
    assert float((once - x).abs().max()) <= float(scale) * (0.5 if symmetric else 1.0) * (1 + 1e-5)
    assert once.unique().numel() <= high - low + 1
    assert float(fake_quantize(torch.zeros(1), scale, zero, low, high)) == 0.0


def _definition(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """LSQ as its paper writes it (Esser et al. 2020, algorithm 1), for torch's own autograd."""

    def round_pass(v: Tensor) -> Tensor:
        return v + (torch.round(v) - v).detach()

    gain = 1.0 / math.sqrt(x.numel() / scale.numel() * high)
    s = scale * gain + (scale - scale * gain).detach()
    v = (x / s).clamp(low - zero, high - zero)
    return round_pass(v) * s


@pytest.mark.parametrize("shape", [(1, 1), (5, 1)])
@pytest.mark.parametrize(("low", "high", "offset"), [(-7, 7, 0.0), (0, 255, 96.0), (-2, 1, 0.0)])
def test_gradients_are_autograd_s_of_the_definition(
    shape: tuple[int, int], low: int, high: int, offset: float
) -> None:
    torch.manual_seed(0)
    x = (torch.randn(5, 400) * 3).requires_grad_()
    scale = (torch.rand(shape) * 4 / (high - low) + 1.0 / (high - low)).requires_grad_()
    zero, weight = torch.full(shape, offset), torch.randn(5, 400)
    wanted = torch.autograd.grad((_definition(x, scale, zero, low, high) * weight).sum(), (x, scale))
    made = torch.autograd.grad((fake_quantize(x, scale, zero, low, high) * weight).sum(), (x, scale))
    inside = (x / scale + zero >= low) & (x / scale + zero <= high)
    assert 0 < int((~inside).sum()) < inside.numel()
    torch.testing.assert_close(made[0], weight * inside)  # straight through inside, nothing outside
    torch.testing.assert_close(made[0], wanted[0])
    torch.testing.assert_close(made[1], wanted[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_every_granularity_equals_a_slow_loop(name: str, granularity: Any) -> None:
    plain, _ = layer(name)
    weight = plain.weight.detach().clone()
    axis = 1 if "transposed" in name else 0
    made = quantize_layer(plain, LayerBits(4, granularity, group=16))
    fit_weights(made, "minmax")
    per_channel = weight.numel() // weight.shape[axis]
    size = {"tensor": weight.numel(), "channel": per_channel, "group": math.gcd(per_channel, 16)}[granularity]
    size = per_channel if size < 8 else size
    moved = weight.movedim(axis, 0)
    rows = moved.reshape(-1, size).numpy()
    wanted = np.empty_like(rows)
    for i, row in enumerate(rows):
        step = np.float32(np.abs(row).max() / 7) or np.float32(1)
        wanted[i] = np.clip(np.rint(row / step), -7, 7) * step
    wanted = wanted.reshape(moved.shape)
    np.testing.assert_allclose(made.weight.detach().movedim(axis, 0).numpy(), wanted, rtol=1e-5, atol=1e-7)
    assert torch.equal(made.state_dict()["weight"], weight)  # kept as it is, under its name


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_stays_what_it_is_and_computes_with_what_is_rounded(name: str) -> None:
    plain, x = layer(name)
    kind, reference = type(plain), copy.deepcopy(plain)
    made = quantize_layer(plain, LayerBits(8, input="unsigned"))
    fit_weights(made)
    scale, zero = affine_scale(x.reshape(1, -1), 0, 255)
    made.input_quantizer.set(scale, zero)
    assert isinstance(made, kind)
    assert made is plain
    assert list(made.state_dict())[:2] == list(reference.state_dict())
    with torch.no_grad():
        reference.weight.copy_(made.weight)
        rounded = fake_quantize(x, scale, zero, 0, 255)
        torch.testing.assert_close(made(x), reference(rounded), rtol=1e-5, atol=1e-5)
    again = copy.deepcopy(made)
    assert torch.equal(again(x), made(x))
    out = made(x).square().sum()
    out.backward()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad != 0).any()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bits", [LayerBits(8, input="signed"), LayerBits(3, "group", 8), LayerBits(16)])
def test_frozen_layers_compute_the_same_from_integers(name: str, bits: LayerBits) -> None:
    plain, x = layer(name)
    made = quantize_layer(plain, bits)
    fit_weights(made)
    if made.input_quantizer is not None:
        made.input_quantizer.set(torch.tensor(0.02))
    with torch.no_grad():
        wanted, weight = made(x), made.weight
        freeze(made)
        assert made.state_dict()["weight"].dtype == (torch.float16 if bits.bits == 16 else torch.int8)
        assert torch.equal(made.weight, weight)
        assert torch.equal(made(x), wanted)


def test_embeddings_are_rounded_row_by_row() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(20, 16)
    with torch.no_grad():
        table.weight.mul_(torch.logspace(-3, 1, 20)[:, None])
    weight = table.weight.detach().clone()
    fit_weights(quantize_layer(table, LayerBits(8)), "minmax")
    error = (table(torch.arange(20)) - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 127 / 2 * 1.0001).all()


def test_constant_and_zero_weights_stay_finite() -> None:
    """A row of zeros takes the largest scale, so that its bias over it stays within 32 bits."""
    rows = torch.cat([torch.zeros(1, 8), torch.full((1, 8), 0.5), torch.randn(1, 8)])
    for observer in OBSERVERS:
        scale = symmetric_scale(rows, 8, observer)
        assert torch.isfinite(scale).all()
        assert (scale > 0).all()
        assert scale[0] == scale.max()
        made = fake_quantize(rows, scale[:, None], torch.zeros(()), -127, 127)
        assert torch.equal(made[0], rows[0])
        torch.testing.assert_close(made[1], rows[1], rtol=1e-2, atol=0)
    assert torch.equal(symmetric_scale(torch.zeros(2, 3), 4), torch.ones(2))
    scale, zero = affine_scale(torch.full((1, 9), 3.0), 0, 255)
    assert float(fake_quantize(torch.tensor(3.0), scale, zero, 0, 255)) == pytest.approx(3.0, rel=1e-5)
    plain = nn.Linear(4, 3)
    nn.init.zeros_(plain.weight)
    fit_weights(quantize_layer(plain, LayerBits(2)))
    assert torch.equal(plain(torch.randn(2, 4)), plain.bias.expand(2, 3))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mse_range_is_never_worse_than_the_whole_one(bits: int) -> None:
    torch.manual_seed(0)
    rows, top = torch.randn(16, 300) ** 3, grid(bits)[1]
    errors = []
    for observer in ("mse", "minmax"):
        scale = symmetric_scale(rows, bits, observer)[:, None]
        errors.append((fake_quantize(rows, scale, torch.zeros(()), -top, top) - rows).square().sum(1))
    assert (errors[0] <= errors[1]).all()
    assert float((errors[0] / errors[1]).mean()) <= (0.95 if bits < 8 else 1.0)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))
    body[1].running_mean.normal_()
    body[1].running_var.uniform_(0.5, 2.0)
    return body.eval()


def test_the_edit_survives_json_and_rebuilds_the_network_bit_for_bit() -> None:
    layers = {"0": LayerBits(4, "group", 8, input="signed"), "3": LayerBits(16)}
    edit = Quantized(layers, (("0", "1"),))
    one, x = _net(), torch.randn(2, 4, 3, 3)
    apply_edits(one, [edit])
    for made in quantized_layers(one).values():
        fit_weights(made)
    again = _net()
    apply_edits(again, [edit_from_json(edit.to_json())])
    again.load_state_dict(one.state_dict())
    assert torch.equal(again(x), one(x))
    assert edit_from_json(edit.to_json()) == edit
    assert edit.to_json()["kind"] == "quantize"


@pytest.mark.parametrize(
    "first",
    [
        nn.Linear(6, 12),
        nn.Sequential(nn.Linear(6, 12, bias=False), nn.Unflatten(1, (4, 3))),
        nn.Sequential(nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 8, 1, groups=2, bias=False)),
        nn.Sequential(nn.Unflatten(1, (6, 1)), nn.ConvTranspose1d(6, 8, 3, groups=2)),
    ],
)
def test_a_norm_goes_into_the_layer_before_it_exactly(first: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 6)
    norm = nn.BatchNorm1d(first(x).shape[1])
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    norm.running_var.uniform_(0.5, 2.0)
    net = nn.Sequential(first, norm).eval()
    wanted = net(x)
    name = next(
        n for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.ConvTranspose1d)
    )
    absorb(net, name, "1")
    assert not any(isinstance(m, nn.BatchNorm1d) for m in net.modules())
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-5)


def test_norms_of_weights_are_taken_off_and_copies_stay_whole() -> None:
    plain = parametrizations.weight_norm(nn.Linear(6, 4))
    other, x = copy.deepcopy(plain), torch.randn(3, 6)
    wanted = plain(x)
    fit_weights(quantize_layer(plain, LayerBits(8)))
    torch.testing.assert_close(plain(x), wanted, rtol=0.02, atol=0.02)
    assert torch.equal(other(x), wanted)
    assert "weight" in plain.state_dict()


def test_scales_are_learned_by_shares() -> None:
    """A step of Adam changes a scale by the learning rate as a share, however small the scale is."""
    for size in (1e-4, 1.0):
        quantizer = Quantizer(-7, 7)
        quantizer.set(torch.tensor(size))
        adam = torch.optim.Adam(quantizer.parameters(), lr=0.01)
        (quantizer(torch.randn(100) * size * 20) / size).square().mean().backward()
        adam.step()
        assert float(quantizer.scale.detach()) / size == pytest.approx(0.99, abs=1e-3)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(NiwakiError, match="a ReLU cannot be quantized"):
        quantize_layer(nn.ReLU(), LayerBits())
    with pytest.raises(NiwakiError, match="not of 9"):
        quantize_layer(nn.Linear(2, 2), LayerBits(9))
    with pytest.raises(NiwakiError, match="or is so already"):
        quantize_layer(quantize_layer(nn.Linear(2, 2), LayerBits()), LayerBits())
    with pytest.raises(NiwakiError, match="no layer 'first'"):
        Quantized({"first": LayerBits()}).apply(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(NiwakiError, match="running statistics"):
        absorb(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "0", "1")
    with pytest.raises(NiwakiError, match="update niwaki"):
        Quantized.from_json({"layers": {"a": {"future": 1}}})
    assert not is_quantizable(nn.BatchNorm1d(3))
