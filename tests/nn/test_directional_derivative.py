"""A network's derivative along a direction, against torch's own and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki import models
from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.directional_derivative import DirectionalDerivative

RNG = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(4, 4, 3, 3, generator=RNG, dtype=torch.float64) / 4
ROW = torch.randn(4, generator=RNG, dtype=torch.float64).abs() + 0.5
SQUARE = torch.randn(6, 6, generator=RNG, dtype=torch.float64) / 2

OPERATORS: dict[str, Callable[[Tensor], Any]] = {
    "conv2d": lambda x: F.conv2d(x, WEIGHT, ROW, padding=1),
    "conv2d with a stride": lambda x: F.conv2d(x, WEIGHT, bias=ROW, stride=2, padding=1),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, WEIGHT, ROW, stride=2),
    "linear": lambda x: F.linear(x, SQUARE, SQUARE[0]),
    "group_norm": lambda x: F.group_norm(x, 2, ROW, ROW),
    "layer_norm": lambda x: F.layer_norm(x, (6,), SQUARE[0], SQUARE[1]),
    "attention": lambda x: F.scaled_dot_product_attention(x, 2.0 * x, x * x),
    "softmax": lambda x: x.softmax(-1),
    "silu": F.silu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "softplus": F.softplus,
    "exp, sin, cos": lambda x: x.exp() + x.sin() * x.cos(),
    "log, sqrt, rsqrt": lambda x: (x * x + 1.0).log() + (x * x + 1.0).sqrt() * (x.square() + 2.0).rsqrt(),
    "powers": lambda x: x**2 + x**3,
    "numbers on both sides": lambda x: (1.0 - x) * 2.0 + (3.0 + x) / 2.0 - 1.0 / (x * x + 1.0),
    "constants on both sides": lambda x: ROW[:, None, None] * x - x / ROW[:, None, None] + ROW[:, None, None],
    "broadcast": lambda x: x + x.mean((2, 3), keepdim=True) - x.sum(1, keepdim=True) * x[:, :1],
    "products": lambda x: torch.matmul(x, x.transpose(2, 3)) @ x,
    "quotients": lambda x: x / (x * x + 1.0),
    "joined and cut": lambda x: torch.cat([x, ROW[:, None, None] * x, ROW[:, None, None].expand(x.shape)], 1)[
        :, 2:9
    ],
    "stacked": lambda x: torch.stack([x, -x], 1).flatten(1, 2).unflatten(1, (2, 4)).permute(0, 2, 1, 3, 4),
    "chunks": lambda x: x.chunk(2, 1)[0] * x.split(2, 1)[1],
    "upsampled": lambda x: F.interpolate(x, scale_factor=2.0),
    "padded": lambda x: F.pad(x, (1, 1, 1, 1)),
    "in place": lambda x: _in_place(x),
}


def _in_place(x: Tensor) -> Tensor:
    h = x * 2.0
    h += x.square()
    h *= x
    return h


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.function(x)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RNG, dtype=torch.float64)


@pytest.mark.parametrize("name", list(OPERATORS))
def test_every_rule_is_the_derivative(name: str) -> None:
    x, v, h = draw(3, 4, 6, 6), draw(3, 4, 6, 6), 1e-5
    function = OPERATORS[name]
    out, slope = DirectionalDerivative(Of(function))(x, torch.zeros(3), v)
    torch.testing.assert_close(out, function(x), rtol=1e-9, atol=1e-9)
    between = (function(x + h * v) - function(x - h * v)) / (2.0 * h)
    torch.testing.assert_close(slope, between, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        ("ddpm", DataSpec.of("image", (1, 8, 8), classes=10)),
        ("edm", DataSpec.of("image", (3, 16, 8))),
        ("flow-matching", DataSpec.of("image", (1, 8, 8), classes=3)),
        ("video-diffusion", DataSpec.of("video", (3, 1, 8, 8), classes=3)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_networks_as_torch_differentiates_them(model: str, spec: DataSpec) -> None:
    torch.manual_seed(0)
    made = models.build(model, {"widths": (8, 16), "blocks": 1, "heads": 2}, spec).double().eval()
    graph = made.graphs()["denoiser"]
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype), alpha=0.1)
        x, t, *rest = (v.double() if v.is_floating_point() else v for v in graph.example(2))
        v = draw(*x.shape)
        out, slope = DirectionalDerivative(graph.module)(x, t, *rest, v)
    plain = graph(x, t, *rest)
    torch.testing.assert_close(out, plain)
    gradient = torch.autograd.functional.jvp(lambda y: graph(y, t, *rest), (x,), (v,))[1]
    torch.testing.assert_close(slope, gradient, rtol=1e-8, atol=1e-8)


def test_what_does_not_depend_on_x_has_no_slope() -> None:
    out, slope = DirectionalDerivative(Of(lambda x: x.detach() * 2.0))(draw(2, 3), torch.zeros(2), draw(2, 3))
    assert not slope.any()
    assert out.any()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: torch.linalg.inv(x), "'linalg_inv'"),
        (lambda x: F.gelu(x, approximate="tanh"), "settings of its own"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "with a mask"),
    ],
)
def test_operators_without_a_rule_are_named(function: Callable[[Tensor], Tensor], text: str) -> None:
    with pytest.raises(CallError, match=text):
        DirectionalDerivative(Of(function))(draw(2, 1, 4, 4), torch.zeros(2), draw(2, 1, 4, 4))
