"""Against zuko and normflows, with the same weights: values, inverses and log-determinants to 1e-10."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from niwaki.models.flow.autoregressive_layers import CausalMove
from niwaki.models.flow.image_layers import ChannelNorm, ConvCoupling, InvertibleMix, Squeeze
from niwaki.models.flow.layers import ActNorm, Coupling
from niwaki.models.flow.networks import ConvNetwork
from niwaki.models.flow.transforms import Affine, Spline

SHAPE = (4, 4, 6)
NEAR = {"atol": 1e-10, "rtol": 1e-10}


@pytest.fixture
def zuko() -> Any:
    return pytest.importorskip("zuko.transforms")


@pytest.fixture
def normflows() -> Any:
    return pytest.importorskip("normflows.flows")


def stirred(module: nn.Module) -> Any:
    torch.manual_seed(1)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.double()


def rows(n: int, size: int) -> Tensor:
    return torch.randn(n, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def affine_of_zuko(zuko: Any, said: Tensor, dim: int = 1) -> Any:
    """Its own bound of the scale, undone: s / (1 + |s / log slope|)."""
    s, t = said.chunk(2, dim=dim)
    s = 2.0 * torch.tanh(s / 2.0)
    return zuko.MonotonicAffineTransform(t, s / (1 - (s / math.log(1e-3)).abs()), slope=1e-3)


def same(layer: nn.Module, other: Any, x: Tensor, y: Tensor | None = None, *, summed: bool = True) -> None:
    """A layer of ours and a transform of zuko's."""
    z, logdet = layer(x, y)
    expected, ladj = other.call_and_ladj(x)
    torch.testing.assert_close(z, expected, **NEAR)
    torch.testing.assert_close(logdet, ladj.sum(-1) if summed else ladj, **NEAR)
    torch.testing.assert_close(layer.inverse(z, y), other.inv(expected), **NEAR)  # type: ignore[operator]


def test_affine_couplings_of_zuko(zuko: Any) -> None:
    mask = torch.tensor([True, False, True, True, False, False, False])
    layer = stirred(Coupling(mask, Affine(), width=8, depth=2, classes=3, dropout=0.0))
    y = torch.arange(6) % 3
    other = zuko.CouplingTransform(lambda a: affine_of_zuko(zuko, layer.conditioner(a, y)), mask)
    same(layer, other, rows(6, 7), y)


def spline_of_zuko(zuko: Any, spline: Spline, said: Tensor) -> Any:
    """Its own bounds, undone, and our smallest shares as its logits."""
    k = spline.bins
    shares = [spline.smallest + (1 - spline.smallest * k) * part.softmax(-1)
              for part in (said[..., :k], said[..., k : 2 * k])]  # fmt: skip
    slopes = spline.smallest + nn.functional.softplus(said[..., 2 * k :] + spline._level)
    least = math.log(1e-30)
    logits = [torch.log(share) for share in shares]
    logits = [v / (1 - (2 * v / least).abs()) for v in logits]
    rise = torch.log(slopes)
    return zuko.MonotonicRQSTransform(
        *logits, rise / (1 - (rise / least).abs()), bound=spline.bound, slope=1e-30
    )


@pytest.mark.parametrize("bins", [2, 5, 8])
def test_splines_of_zuko(zuko: Any, bins: int) -> None:
    spline, x = Spline(bins), 2.0 * rows(500, 3)
    said = 1.5 * torch.randn(500, 3 * spline.parameters, dtype=torch.float64)
    other = spline_of_zuko(zuko, spline, said.unflatten(1, (3, spline.parameters)))
    z, logdet = spline.forward(x, said)
    expected, ladj = other.call_and_ladj(x)
    torch.testing.assert_close(z, expected, **NEAR)
    torch.testing.assert_close(logdet, ladj, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(spline.inverse(z, said), other.inv(expected), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("backwards", [False, True])
def test_autoregressive_transforms_of_zuko(zuko: Any, backwards: bool) -> None:
    """Its inverse takes as many passes over all tokens as there are."""
    tokens, dim = 5, 2
    layer = stirred(
        CausalMove(
            tokens, dim, Affine(), backwards=backwards, width=8, depth=1, heads=2, dropout=0.0, classes=3
        )
    )
    y = torch.arange(6) % 3
    told: list[Tensor] = []
    layer.leave.register_forward_hook(lambda *call: told.append(call[2]))

    def meta(x: Tensor) -> Any:
        layer(x, y)
        s, t = told[-1].unflatten(-1, (2, dim)).unbind(-2)  # (n, tokens, dim)
        parts = [(part.flip(1) if backwards else part).flatten(1) for part in (s, t)]
        return affine_of_zuko(zuko, torch.cat(parts, 1))

    same(layer, zuko.AutoregressiveTransform(meta, passes=tokens), rows(6, tokens * dim), y)


def test_couplings_of_realnvp_in_normflows(normflows: Any) -> None:
    mask = torch.tensor([True, False, True, True, False, False, False])
    layer = stirred(Coupling(mask, Affine(), width=8, depth=2, classes=0, dropout=0.0))

    class Said(nn.Module):
        def __init__(self, part: int) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            s, t = layer.conditioner(x[:, mask]).chunk(2, 1)
            out = torch.zeros_like(x)
            out[:, ~mask] = t if self.part else 2.0 * torch.tanh(s / 2.0)
            return out

    other = normflows.MaskedAffineFlow(mask.double(), t=Said(1), s=Said(0))
    agree(layer, other.forward, other.inverse, rows(6, 7))


def agree(layer: nn.Module, there: Any, back: Any, x: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """A layer of ours and two directions of normflows'."""
    z, logdet = layer(x)
    expected, log_det = there(x if shape is None else x.unflatten(1, shape))
    torch.testing.assert_close(z, expected.flatten(1), **NEAR)
    torch.testing.assert_close(logdet, torch.as_tensor(log_det, dtype=z.dtype).expand(len(x)), **NEAR)
    torch.testing.assert_close(layer.inverse(z), back(expected)[0].flatten(1), **NEAR)  # type: ignore[operator]


def test_the_mix_of_glow_in_normflows(normflows: Any) -> None:
    torch.manual_seed(0)
    other = normflows.Invertible1x1Conv(SHAPE[0], use_lu=True).double()
    for p in (other.L, other.U, other.log_S):
        nn.init.normal_(p, std=0.3)
    layer = InvertibleMix(SHAPE).double()
    with torch.no_grad():
        layer.lower.copy_(other.L)
        layer.upper.copy_(other.U)
        layer.log_diagonal.copy_(other.log_S)
        layer.sign.copy_(other.sign_S)
        layer.order.copy_(other.P.argmax(1))
    agree(layer, other.inverse, other.forward, rows(5, math.prod(SHAPE)), SHAPE)


@pytest.mark.parametrize("images", [True, False])
def test_activation_normalization_in_normflows(normflows: Any, images: bool) -> None:
    layer = stirred(ChannelNorm(SHAPE) if images else ActNorm(7))
    shape = (SHAPE[0], 1, 1) if images else (7,)
    other = normflows.AffineConstFlow(shape).double()
    with torch.no_grad():
        other.s.copy_(layer.log_scale[None])
        other.t.copy_((layer.shift * layer.log_scale.exp())[None])
    agree(
        layer,
        other.forward,
        other.inverse,
        rows(5, math.prod(SHAPE) if images else 7),
        SHAPE if images else None,
    )


def test_squares_of_pixels_in_normflows(normflows: Any) -> None:
    other = normflows.Squeeze()
    agree(Squeeze(SHAPE), other.inverse, other.forward, rows(5, math.prod(SHAPE)), SHAPE)


def test_couplings_of_glow_in_normflows(normflows: Any) -> None:
    """Its parameters of shift and scale take turns, ours stand one after another."""
    layer = stirred(ConvCoupling(SHAPE, Affine(), partial(ConvNetwork, width=8)))

    class Said(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            s, t = layer.network(a).chunk(2, 1)
            return torch.stack([t, 2.0 * torch.tanh(s / 2.0)], 2).flatten(1, 2)

    other = normflows.AffineCouplingBlock(Said(), scale_map="exp", split_mode="channel")
    agree(layer, other.forward, other.inverse, rows(5, math.prod(SHAPE)), SHAPE)
