"""Blocks, attention and embeddings against slow, obvious references."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.layers.attention import Attention2d, attend
from niwaki.nn.layers.blocks import UPSAMPLING, Unflatten, conv_norm, conv_up, pyramid
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki.nn.layers.images import Squash, to_signed, to_unit
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import apply_edits


def attention(channels: int = 16, heads: int = 4) -> Attention2d:
    torch.manual_seed(0)
    module = Attention2d(channels, heads, groups=4).double()
    with torch.no_grad():
        module.out.weight.normal_()  # it starts near the identity, which would hide the rest
    return module


def test_attention_against_a_loop_over_heads_and_positions() -> None:
    module = attention()
    x = torch.randn(2, 16, 3, 2, dtype=torch.float64)
    h = module.norm(x)
    q, k, v = (f(h).flatten(2) for f in (module.q, module.k, module.v))  # (n, c, hw)
    mixed = torch.empty_like(v)
    for head in range(4):
        rows = slice(4 * head, 4 * head + 4)
        for i in range(6):
            scores = (q[:, rows, i, None] * k[:, rows]).sum(1) / math.sqrt(4)
            mixed[:, rows, i] = (scores.softmax(1)[:, None] * v[:, rows]).sum(2)
    torch.testing.assert_close(module(x), x + module.out(mixed.unflatten(2, (3, 2))))


def test_attention_without_positions_commutes_with_a_shuffle_of_the_pixels() -> None:
    module = attention()
    x = torch.randn(2, 16, 2, 4, dtype=torch.float64)
    order = torch.randperm(8)

    def shuffled(value: torch.Tensor) -> torch.Tensor:
        return value.flatten(2)[..., order].unflatten(2, (2, 4))

    torch.testing.assert_close(module(shuffled(x)), shuffled(module(x)))


def test_attention_loses_nothing_when_dead_channels_of_every_head_are_cut() -> None:
    """Position 1 of each head is dead in q and k, position 3 in v: without them the output is the same."""
    module = attention()
    with torch.no_grad():
        for layer in (module.q, module.k):
            layer.weight[1::4] = 0.0
        module.q.bias[1::4] = 0.0
        module.v.weight[3::4] = 0.0
        module.v.bias[3::4] = 0.0
    x = torch.randn(2, 16, 2, 2, dtype=torch.float64)
    before = module(x)
    scores = tuple(c for c in range(16) if c % 4 != 1)
    values = tuple(c for c in range(16) if c % 4 != 3)
    cuts = [
        Cut("q", "out", scores),
        Cut("k", "out", scores),
        Cut("v", "out", values),
        Cut("out", "in", values),
    ]
    apply_edits(module, cuts)
    assert module.q.out_channels == 12
    torch.testing.assert_close(module(x), before)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(CallError, match="cannot be shared by 3"):
        Attention2d(16, 3)


@pytest.mark.parametrize("upsampling", sorted(UPSAMPLING))
def test_a_batch_norm_of_every_upsampling_folds_into_its_convolution(upsampling: str) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*conv_up(6, 4, upsampling=upsampling)).double()
    layers(torch.randn(8, 6, 4, 4, dtype=torch.float64))  # running statistics
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    expected = layers.eval()(x)
    conv = next(m for m in layers if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    norm = next(m for m in layers if isinstance(m, nn.BatchNorm2d))
    axis = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    shape = [1] * 4
    shape[axis] = -1
    weight, bias = conv.weight * gain.reshape(shape), norm.bias - norm.running_mean * gain
    if axis:
        folded = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    else:
        folded = F.conv2d(F.interpolate(x, scale_factor=2.0), weight, bias, padding=1)
    torch.testing.assert_close(F.relu(folded), expected)
    assert expected.shape == (2, 4, 8, 8)


def test_the_two_ways_up_agree_where_both_can_say_it() -> None:
    """Nearest + 1×1 convolution is a transposed convolution whose 2×2 taps are equal."""
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 1, 1)
    near = F.conv2d(F.interpolate(x, scale_factor=2.0), weight)
    taps = F.pad(weight.permute(1, 0, 2, 3).expand(3, 5, 2, 2), (1, 1, 1, 1))
    torch.testing.assert_close(F.conv_transpose2d(x, taps, stride=2, padding=1), near, rtol=1e-4, atol=1e-5)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(CallError, match="did you mean 'nearest'"):
        conv_up(1, 1, upsampling="nearst")
    with pytest.raises(CallError, match="did you mean 'batch'"):
        conv_norm(1, 1, norm="bach")


@pytest.mark.parametrize("height", range(4, 130, 3))
@pytest.mark.parametrize("width", [4, 8, 12, 64])
def test_a_pyramid_doubles_up_to_its_size_and_could_not_start_smaller(height: int, width: int) -> None:
    sizes = pyramid(height, width)
    assert sizes[-1] == (height, width)
    assert all(b == (2 * a[0], 2 * a[1]) for a, b in pairwise(sizes))
    h, w = sizes[0]
    assert min(h, w) >= 4
    assert h % 2 or w % 2 or min(h, w) < 8


def test_unflatten_undoes_flatten() -> None:
    x = torch.randn(3, 5, 4, 2)
    assert torch.equal(Unflatten(4, 2)(x.flatten(1)), x)


def test_sinusoidal_inner_products_depend_on_the_difference_of_times_alone() -> None:
    """⟨e(s), e(t)⟩ = Σ cos ω(s − t): the property that the embedding is chosen for."""
    embed = Sinusoidal(32)
    e = embed(torch.tensor([3.0, 10.0, 103.0, 110.0]))
    torch.testing.assert_close(e[0] @ e[1], e[2] @ e[3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(e.square().sum(1), torch.full((4,), 16.0))
    assert float(embed.frequencies[0]) == 1.0
    assert float(embed.frequencies[-1]) == pytest.approx(1e-4)


def test_squash_and_its_inverse_conversions() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(Squash(-1.0, 1.0)(x), x.tanh())
    spec = DataSpec.of("image", (1, 4, 4), low=2.0, high=5.0)
    squashed = Squash(spec.low, spec.high)(x)
    torch.testing.assert_close(to_signed(squashed, spec), x.tanh())
    torch.testing.assert_close(to_unit(squashed, spec), (x.tanh() + 1.0) / 2.0)


def test_attention_spelled_out_for_bf16_on_a_cpu_is_the_kernels_with_its_gradients() -> None:
    q, k, v = (torch.randn(2, 3, 9, 4) for _ in range(3))
    results = []
    for dtype in (torch.float64, torch.bfloat16):
        inputs = [x.bfloat16().to(dtype).requires_grad_(True) for x in (q, k, v)]
        out = attend(*inputs, scale=0.5)
        out.square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for exact, rounded in zip(*results, strict=True):
        torch.testing.assert_close(rounded.double(), exact, atol=0.06, rtol=0.06)
