"""Flow++: noise of levels with its exact density, a bound that is one, networks that see the whole image."""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import DIGITS, batch, context, make

from niwaki.core.contract import DataSpec, Real, ValueSpec
from niwaki.evaluation.judges.likelihood import EXACT
from niwaki.models.flow.dequantizer import Dequantizer
from niwaki.models.flow.flowpp import FlowPP
from niwaki.models.flow.networks import AttentiveNetwork

SMALL = DataSpec.of("image", (1, 4, 4), levels=5)


def stirred(module: torch.nn.Module, size: float) -> torch.nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 1.0))
    return module.eval()


def model(spec: DataSpec = DIGITS, size: float = 0.2, **changes: object) -> FlowPP:
    found = make("flowpp", spec, **changes)
    assert isinstance(found, FlowPP)
    stirred(found, size)
    return found


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 6)])
def test_the_density_of_the_noise_is_that_of_its_change_of_variables(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    noise = Dequantizer(shape, layers=2, width=8, blocks=1, heads=2)
    stirred(noise, 0.1).double()
    size = math.prod(shape)
    x, eps = torch.rand(1, *shape, dtype=torch.float64), torch.randn(size, dtype=torch.float64)
    u, log_q = noise(x, eps[None])
    assert ((u > 0) & (u < 1)).all()
    jacobian = torch.autograd.functional.jacobian(lambda e: noise(x, e[None])[0].flatten(), eps)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum()
    expected = normal - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(log_q[0], expected, atol=1e-9, rtol=1e-9)
    other = noise(1 - x, eps[None])[0]
    assert float((other - u).detach().abs().max()) > 1e-4, "it sees the image"


def test_the_bound_and_uniform_noise_say_the_same_probability() -> None:
    """E[p(x + v)/q(v | x)] over q's noise is P(x) whatever q is; its logarithm is above the mean bound."""
    found = model(SMALL, 0.1, conditional=False).double()
    n = 4000
    x = batch(SMALL, 1, seed=3).x.double().expand(n, 1, 4, 4)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        eps = torch.randn(n, 16, generator=rng, dtype=torch.float64)
        ours = found.bound(eps, x)
        uniform = found.log_prob(found.dequantise(x, rng)) + 16 * math.log(found.step)
    estimates = [torch.logsumexp(each, 0) - math.log(n) for each in (ours, uniform)]
    spread = [float((each - each.max()).exp().std() / (each - each.max()).exp().mean()) / n**0.5
              for each in (ours, uniform)]  # fmt: skip
    assert abs(float(estimates[0] - estimates[1])) < 4.5 * math.hypot(*spread)
    assert float(ours.mean()) < float(estimates[0])


def test_the_loss_is_the_bound_in_nats_per_value() -> None:
    found = model(conditional=False)
    data = batch(DIGITS, 8)
    loss = found.loss("nll", data, context(4))["nll"]
    eps = torch.randn((8, 64), generator=context(4).rng)
    expected = -found.bound(eps, data.x).mean() / 64 + math.log(found.step)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_of_levels_log_prob_is_a_probability_and_of_amounts_a_density() -> None:
    assert model().program("log_prob").output.names == (EXACT,)
    assert model(dequantizer=0).program("log_prob").output.names == ()
    amounts = model(DataSpec({"x": ValueSpec("image", (3, 8, 8), "CHW", Real(-1.0, 1.0))}))
    assert amounts.dequantizer is None
    assert amounts.program("log_prob").output.names == ()
    assert [phase.parameters for phase in amounts.phases()] == [("flow",)]


def test_the_network_sees_every_place_from_every_place() -> None:
    torch.manual_seed(0)
    network = AttentiveNetwork(1, 1, width=8, blocks=1, heads=2)
    stirred(network, 0.5).double()
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(x)[0, 0, 0, 0], x)
    assert (slope != 0).all()
