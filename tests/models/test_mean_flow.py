"""Mean flows: the identity that they learn by, in closed form and against finite differences."""

from __future__ import annotations

import pytest
import torch
from model_cases import batch, context, make, step
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.diffusion import mean_flow
from niwaki.models.diffusion.mean_flow import average_velocity_target, tempered
from niwaki.nn.diffusion import columns

MEAN, STD = 0.3, 0.5
"""Of every pixel of the Gaussian data below."""


def spread(t: Tensor) -> Tensor:
    """Standard deviation of x_t = (1 − t) x₀ + t ε."""
    return ((1.0 - t).square() * STD**2 + t.square()).sqrt()


def moved(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Where the flow of the Gaussian has `x` of time t at time r: at the same quantile."""
    t, r = columns(t, x), columns(r, x)
    return (1.0 - r) * MEAN + spread(r) * (x - (1.0 - t) * MEAN) / spread(t)


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt of the same flow: −m + s'(t)/s(t) (x − (1 − t) m)."""
    t = columns(t, x)
    change = (t - (1.0 - t) * STD**2) / spread(t)
    return -MEAN + change / spread(t) * (x - (1.0 - t) * MEAN)


def average(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    return (x - moved(x, t, r)) / columns(t - r, x)


def points(n: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """x, t and an earlier r, in float64."""
    rng = torch.Generator().manual_seed(0)
    t = 0.1 + 0.9 * torch.rand(n, generator=rng, dtype=torch.float64)
    r = t * torch.rand(n, generator=rng, dtype=torch.float64) * 0.95
    return torch.randn(n, 1, 4, 4, generator=rng, dtype=torch.float64), t, r


def test_the_identity_holds_for_the_average_velocity_of_a_gaussian() -> None:
    """u = v − (t − r) du/dt, exactly (Geng et al. 2025, Equation 6)."""
    x, t, r = points()
    target = average_velocity_target(average, x, t, r, velocity(x, t))
    torch.testing.assert_close(target, average(x, t, r), atol=1e-10, rtol=1e-10)


def test_and_for_no_other() -> None:
    x, t, r = points()
    for wrong in (lambda x, t, r: velocity(x, t), lambda x, t, r: average(x, t, r) + columns(t, x)):
        target = average_velocity_target(wrong, x, t, r, velocity(x, t))
        assert float((target - wrong(x, t, r)).abs().mean()) > 1e-2


def test_the_derivative_is_that_of_finite_differences_along_the_flow() -> None:
    """Of the network itself: (u(x + h v, t + h, r) − u(x, t, r)) / h as h → 0, in float64."""
    model = stirred("mean-flow").double()
    x, t, r = points(4)
    x, v, y = torch.randn(4, 1, 8, 8).double(), torch.randn(4, 1, 8, 8).double(), torch.arange(4)

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        return model.denoiser(x, t, r, y)

    with torch.no_grad():
        h = 1e-4
        change = (u(x + h * v, t + h, r) - u(x - h * v, t - h, r)) / (2 * h)
        target = average_velocity_target(u, x, t, r, v)
        torch.testing.assert_close(target, v - columns(t - r, x) * change, atol=1e-3, rtol=1e-3)


def stirred(name: str, **settings: object) -> torch.nn.Module:
    """No weight is zero, as after training."""
    model = make(name, **settings).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def test_where_both_times_are_one_it_learns_the_velocity() -> None:
    """(t − r) = 0: the target is v, whatever the network is."""
    x, t, _ = points()
    v = velocity(x, t)
    assert torch.equal(average_velocity_target(average_at_rest, x, t, t, v), v)


def average_at_rest(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
    return x * columns(t - r, x) + columns(t, x)


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_the_loss_of_an_exact_network_is_zero_where_paths_are_straight(apart: float) -> None:
    """Data at one point c: the flow is straight, u(x, t, r) = (x − c) / t whatever r; nothing is left."""
    model = make("mean-flow", DataSpec.of("image", (1, 8, 8)), apart=apart, power=0.0)
    c = torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8)

    class Exact(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
            return (x - c) / columns(t, x)

    model.denoiser = Exact()
    data = batch(model.spec, 16).replaced(x=c.expand(16, 1, 8, 8))
    loss = model.loss("average_velocity", data, context())["average_velocity"]
    assert float(loss) == pytest.approx(0.0, abs=1e-4)


def test_one_step_and_many_lead_to_the_same_sample_where_the_average_is_exact() -> None:
    """Along the flow of a Gaussian: x₀ = m + STD · noise, in any number of calls."""
    model = make("mean-flow", DataSpec.of("image", (1, 8, 8)))

    class Exact(torch.nn.Linear):  # a module with weights, whose device is asked
        def forward(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:  # type: ignore[override]
            return average(x, t, r)

    model.denoiser = Exact(1, 1)
    one, two, five = (model.sample(64, seed=4, steps=k, clip=0.0) for k in (1, 2, 5))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one, five, atol=1e-5, rtol=1e-5)
    assert float(one.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(one.std()) == pytest.approx(STD, rel=0.03)


def test_each_step_is_one_call() -> None:
    model = make("mean-flow")
    assert model.sampler().evaluations() == 1
    assert make("mean-flow", steps=2).sampler().evaluations() == 2
    calls = []
    model.denoiser.register_forward_hook(lambda *_: calls.append(1))
    model.sample(3, seed=0, steps=2)
    assert len(calls) == 2


def test_the_times_lie_apart_for_the_share_that_is_asked() -> None:
    model = make("mean-flow", apart=0.25)
    t, r = model._times(4000, 1000, context())
    assert (t >= r).all()
    assert (t[:1000] > r[:1000]).all()
    assert torch.equal(t[1000:], r[1000:])
    # Those of flow matching are no maximum of two: their median is that of the logit-normal density.
    assert float(t[1000:].median()) == pytest.approx(1 / (1 + 2.718281828**0.4), abs=0.02)


def test_the_network_is_told_both_times() -> None:
    model = stirred("mean-flow")
    x, y = torch.randn(3, 1, 8, 8), torch.arange(3)
    t, r = torch.full((3,), 0.8), torch.full((3,), 0.2)
    with torch.no_grad():
        seen = [model.denoiser(x, *times, y) for times in ((t, r), (t, t), (r, r))]
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.allclose(seen[1], seen[2])


def test_built_in_guidance_trains_on_the_guided_field() -> None:
    """ω v + κ u(c) + (1 − ω − κ) u(∅); where no label is asked, v."""
    model = stirred("mean-flow", guidance=2.0, mixing=0.3)
    x, v = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    t, y = torch.full((4,), 0.5), torch.tensor([1, 2, 10, 3])
    with torch.no_grad():
        own, free = model.denoiser(x, t, t, y), model.denoiser(x, t, t, torch.full_like(y, 10))
        found = model._guided(v, x, t, [y])
    wanted = 2.0 * v + 0.3 * own - 1.3 * free
    torch.testing.assert_close(found[[0, 1, 3]], wanted[[0, 1, 3]])
    assert torch.equal(found[2], v[2])


@pytest.mark.parametrize("power", [0.0, 0.5, 0.75, 1.0, 1.5])
def test_the_tempered_error_has_the_gradient_of_the_weighted_one(power: float) -> None:
    """d φ(e) = sg(1 / (e + c)^p) de; it is 0 where nothing is wrong, and rises."""
    error = torch.linspace(0.0, 4.0, 9, dtype=torch.float64, requires_grad=True)
    found = tempered(error, power)
    (slope,) = torch.autograd.grad(found.sum(), error)
    torch.testing.assert_close(slope, (error.detach() + 1e-3) ** -power)
    assert float(found[0].detach()) == pytest.approx(0.0, abs=1e-12)
    assert (found.diff() > 0).all()


def test_no_gradient_passes_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is the same where the target is a constant."""
    model = stirred("mean-flow")
    data, targets = batch(model.spec, 8), []

    def recorded(*given: object) -> Tensor:
        targets.append(average_velocity_target(*given))  # type: ignore[arg-type]
        return targets[-1]

    monkeypatch.setattr(mean_flow, "average_velocity_target", recorded)
    first = step(model, data)["denoiser"]
    assert not targets[0].requires_grad
    monkeypatch.setattr(mean_flow, "average_velocity_target", lambda *_: targets[0].clone())
    again = step(model, data)["denoiser"]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_sampler_takes_at_least_one_step() -> None:
    with pytest.raises(CallError, match="at least one step"):
        make("mean-flow", steps=0).sampler()
