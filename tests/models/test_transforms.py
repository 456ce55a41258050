"""How couplings move values: inverses, slopes, and the spline against its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from niwaki.core.contract import Graph, Port
from niwaki.deployment.export import to_onnx
from niwaki.models.flow.bisection import bisect
from niwaki.models.flow.mixture import MixtureLogistics
from niwaki.models.flow.transforms import TRANSFORMS, Spline, Transform
from niwaki_runtime.engines import open_graph

CASES: dict[str, tuple[Transform, float]] = {
    **{name: (kind(), 1.0) for name, kind in TRANSFORMS.items()},
    "spline of two": (Spline(bins=2), 1.0),
    "steep spline": (Spline(bins=16), 6.0),
    "narrow spline": (Spline(bins=5, bound=1.0), 2.0),
    "mixture": (MixtureLogistics(), 1.0),
    "mixture of one": (MixtureLogistics(components=1), 1.0),
    "steep mixture": (MixtureLogistics(components=8), 4.0),
}


def said(
    transform: Transform, n: int, k: int, spread: float, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, k * transform.parameters, generator=rng, dtype=dtype)


def points(n: int, k: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Inside and outside of where splines bend."""
    return 6.0 * (2 * torch.rand(n, k, generator=torch.Generator().manual_seed(seed + 1), dtype=dtype) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_forward_then_inverse_is_the_value(name: str) -> None:
    transform, spread = CASES[name]
    x, theta = points(5000, 4), said(transform, 5000, 4, spread)
    z, _ = transform.forward(x, theta)
    near = {"atol": 1e-10 if spread < 4 else 1e-7, "rtol": 1e-10}  # where a slope is 1e-5, digits are lost
    torch.testing.assert_close(transform.inverse(z, theta), x, **near)
    back = transform.inverse(x, theta)
    torch.testing.assert_close(transform.forward(back, theta)[0], x, **near)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_random_points_in_float32_come_back_with_finite_gradients(name: str, count: int) -> None:
    transform, spread = CASES[name]
    # Of splines the steepest segment rises a thousand times as fast as the flattest.
    spread = min(spread, 2.0)
    done = 0
    for part in range(0, count, 100_000):
        n = min(count - part, 100_000) // 4
        x, theta = points(n, 4, torch.float32, part), said(transform, n, 4, spread, torch.float32, part)
        z, logdet = transform.forward(x, theta)
        assert torch.isfinite(logdet).all()
        back = transform.inverse(z, theta)
        # A slope of 1/100 costs two of the seven digits, and so does a value of 100.
        error = (back - x).abs() * logdet.exp().clamp(max=1.0) / z.abs().clamp(min=1.0)
        assert float(error.max()) < 1e-5 * spread
        done += x.numel()
        if part == 0:
            for way in (lambda v, t: transform.forward(v, t)[0], transform.inverse):
                some, few = x[:2500].clone().requires_grad_(), theta[:2500].clone().requires_grad_()
                way(some, few).sum().backward()
                for grad in (some.grad, few.grad):
                    assert grad is not None
                    assert torch.isfinite(grad).all()
    assert done == count


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_the_inverse_are_those_of_an_inverse_function(name: str) -> None:
    """With z = f(x, θ): dx/dz = 1/f', dx/dθ = −(df/dθ)/f'."""
    transform, spread = CASES[name]
    spread = min(spread, 1.0)
    x, theta = points(50, 3).requires_grad_(), said(transform, 50, 3, spread).requires_grad_()
    z, logdet = transform.forward(x, theta)
    (by_theta,) = torch.autograd.grad((z * torch.exp(-logdet).detach()).sum(), theta)
    again, same = z.detach().requires_grad_(), theta.detach().requires_grad_()
    transform.inverse(again, same).sum().backward()
    torch.testing.assert_close(again.grad, torch.exp(-logdet).detach(), atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(same.grad, -by_theta, atol=1e-7, rtol=1e-7)


def test_a_mixture_is_the_logit_of_its_distribution_function() -> None:
    mixture = MixtureLogistics(components=3, rest=0.1)
    x, theta = points(200, 1), said(mixture, 200, 1, 1.0)
    weight, mean, scale = theta[:, 2:].view(200, 3, 3).unbind(1)
    scale = torch.exp(3 * torch.tanh(scale / 3))
    below = (weight.softmax(1) * torch.sigmoid((x - mean) / scale)).sum(1)
    bent = (torch.logit(below) + 0.1 * x[:, 0]) / 1.1
    expected = bent * torch.exp(2 * torch.tanh(theta[:, 0] / 2)) + theta[:, 1]
    torch.testing.assert_close(mixture.forward(x, theta)[0][:, 0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("value", [-1e4, -300.0, 300.0, 1e4])
def test_a_mixture_leads_back_from_its_far_tails(value: float) -> None:
    mixture = MixtureLogistics()
    x, theta = torch.full((100, 2), value), said(mixture, 100, 2, 1.0, torch.float32)
    z, logdet = mixture.forward(x, theta)
    assert torch.isfinite(z).all()
    assert torch.isfinite(logdet).all()
    torch.testing.assert_close(mixture.inverse(z, theta), x, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_roots_are_found_by_halving(dtype: torch.dtype, near: float) -> None:
    x = torch.linspace(-3, 3, 101, dtype=dtype)
    found = bisect(lambda v: v**3 + v - (x**3 + x), torch.full_like(x, -4.0), torch.full_like(x, 5.0))
    torch.testing.assert_close(found, x, atol=near * 4, rtol=near)


@pytest.mark.parametrize("name", CASES)
def test_the_logarithm_is_that_of_the_slope(name: str) -> None:
    transform, spread = CASES[name]
    x, theta = points(400, 3).requires_grad_(), said(transform, 400, 3, spread)
    z, logdet = transform.forward(x, theta)
    (slope,) = torch.autograd.grad(z.sum(), x)
    assert (slope > 0).all(), "monotone"
    torch.testing.assert_close(logdet, slope.log(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("edge", [-4.0, 4.0])
def test_beyond_the_bound_a_spline_is_the_identity_and_joins_it_smoothly(edge: float) -> None:
    spline = Spline()
    theta = said(spline, 1, 1, 2.0)
    beyond = torch.tensor([[1.5 * edge]], dtype=torch.float64)
    z, logdet = spline.forward(beyond, theta)
    assert (float(z), float(logdet)) == (1.5 * edge, 0.0)
    near = torch.tensor([[edge * (1 - 1e-12)]], dtype=torch.float64)
    z, logdet = spline.forward(near, theta)
    assert float(z) == pytest.approx(edge, abs=1e-6)
    assert float(logdet) == pytest.approx(0.0, abs=1e-6)


def test_where_nothing_is_said_all_are_the_identity() -> None:
    x = points(50, 2)
    for transform, _ in CASES.values():
        z, logdet = transform.forward(x, torch.zeros(50, 2 * transform.parameters, dtype=torch.float64))
        torch.testing.assert_close(z, x, atol=1e-12, rtol=0)
        torch.testing.assert_close(logdet, torch.zeros_like(x), atol=1e-12, rtol=0)


def test_a_spline_passes_through_its_knots_with_their_slopes() -> None:
    spline = Spline(bins=4, bound=2.0, smallest=1e-3)
    theta = said(spline, 1, 1, 1.0)
    shares = [1e-3 + (1 - 4e-3) * part.softmax(-1) for part in (theta[0, :4], theta[0, 4:8])]
    xs, zs = (-2.0 + 4.0 * share.cumsum(0)[:-1] for share in shares)
    slopes = 1e-3 + torch.nn.functional.softplus(theta[0, 8:] + spline._level)
    z, logdet = spline.forward(xs[:, None], theta.expand(3, -1))
    torch.testing.assert_close(z[:, 0], zs)
    torch.testing.assert_close(logdet[:, 0].exp(), slopes)


def test_the_spline_of_nflows() -> None:
    reference: Any = pytest.importorskip("nflows.transforms.splines.rational_quadratic")
    spline = Spline(bins=8, bound=4.0)
    x, theta = points(2000, 3), said(spline, 2000, 3, 2.0)
    each = theta.unflatten(1, (3, spline.parameters))
    given = {
        "unnormalized_widths": each[..., :8],
        "unnormalized_heights": each[..., 8:16],
        "unnormalized_derivatives": each[..., 16:] + spline._level,
        "tails": "linear",
        "tail_bound": 4.0,
    }
    z, logdet = reference.unconstrained_rational_quadratic_spline(inputs=x, **given)
    found, slope = spline.forward(x, theta)
    torch.testing.assert_close(found, z, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(slope, logdet, atol=1e-9, rtol=1e-9)


class Both(torch.nn.Module):
    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, logdet = self.transform.forward(x, said)
        return z, logdet, self.transform.inverse(x, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(Spline(bins=4), id="spline"),
        pytest.param(MixtureLogistics(), id="mixture", marks=pytest.mark.slow),
    ],
)
def test_engines_find_the_inverse_at_large_batches(transform: Transform, tmp_path: Path) -> None:
    """A sum of integers that is computed further on makes openvino write beyond its memory from some batch
    on; bisection is a loop of the graph."""
    k = 32
    ports = (Port("x", (1, k)), Port("said", (1, k * transform.parameters)))
    graph = Graph("generator", Both(transform), ports, ("z", "logdet", "back"))
    path = tmp_path / "transform.onnx"
    path.write_bytes(to_onnx("transform", graph, graph.module).SerializeToString())
    x, theta = points(200, k, torch.float32), said(transform, 200, k, 1.0, torch.float32)
    for engine in ("openvino", "onnxruntime"):
        found = open_graph(engine, path, precision="exact", threads=1)(x.numpy(), theta.numpy())
        for made, wanted in zip(found, graph.module(x, theta), strict=True):
            np.testing.assert_allclose(made, wanted.numpy(), atol=1e-3)
