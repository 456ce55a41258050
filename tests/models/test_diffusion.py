"""Training's forward process, targets and label dropout, against what the device's samplers assume."""

from __future__ import annotations

import pytest
import torch
from model_cases import batch, context, make

from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.diffusion import TensorProcess, drop_labels, noised
from niwaki_runtime.process import VariancePreserving
from niwaki_runtime.process.conversions import CONVERSIONS, to_x0_eps


def levels(schedule: str, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """α and σ of every timestep."""
    path = TensorProcess(VariancePreserving(schedule, steps))
    return path.levels(torch.arange(steps))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "sigmoid"])
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_levels_are_finite_at_both_ends_fall_and_preserve_variance(schedule: str, steps: int) -> None:
    a, s = levels(schedule, steps)
    assert torch.isfinite(a).all()
    assert torch.isfinite(s).all()
    assert (a > 0).all()  # ε-prediction divides by α, x₀-prediction by σ
    assert (s > 0).all()
    assert (a.diff() < 0).all()
    torch.testing.assert_close(a.square() + s.square(), torch.ones(steps), rtol=1e-6, atol=0)


def test_the_forward_process_one_step_at_a_time_has_the_levels_moments() -> None:
    """x_t = √(1−β_t) x_{t−1} + √β_t ε, followed as (mean, variance) of x_t | x₀."""
    from niwaki_runtime.process.schedules import SCHEDULES

    for schedule, betas in SCHEDULES.items():
        a, s = levels(schedule, 100)
        mean, variance = 1.0, 0.0
        for t, beta in enumerate(betas(100)):
            mean, variance = (1.0 - beta) ** 0.5 * mean, (1.0 - beta) * variance + beta
            assert float(a[t]) == pytest.approx(mean, rel=1e-6)
            assert float(s[t]) ** 2 == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("prediction", sorted(CONVERSIONS))
def test_the_samplers_take_back_what_training_asks_for(prediction: str) -> None:
    """The exact target, read by the sampler, gives the very x₀ and ε that made x_t."""
    x0, eps = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    a, s = (v.double() for v in levels("cosine", 1000))
    for t in (0, 1, 500, 998):
        x = noised(x0, eps, a[t], s[t])
        target = CONVERSIONS[prediction].target(x0, eps, a[t], s[t])
        found_x0, found_eps = to_x0_eps(prediction, x, target, float(a[t]), float(s[t]))
        # float32 tables make α² + σ² = 1 only to 1e-7, and ε-prediction divides the error by α
        torch.testing.assert_close(found_x0, x0, atol=1e-5, rtol=0)
        torch.testing.assert_close(found_eps, eps, atol=1e-5, rtol=0)


def test_v_is_the_derivative_of_the_noised_sample_along_the_angle() -> None:
    """v = dx/dφ at α = cos φ, σ = sin φ (Salimans & Ho 2022, Appendix D)."""
    x0, eps = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    phi = torch.tensor(0.7, dtype=torch.float64)
    _, v = torch.func.jvp(lambda p: noised(x0, eps, p.cos(), p.sin()), (phi,), (torch.ones_like(phi),))
    torch.testing.assert_close(CONVERSIONS["v"].target(x0, eps, phi.cos(), phi.sin()), v)


def test_each_sample_is_noised_at_its_own_level() -> None:
    x0, eps = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    a, s = torch.tensor([1.0, 0.6, 0.0]), torch.tensor([0.0, 0.8, 1.0])
    x = noised(x0, eps, a, s)
    torch.testing.assert_close(x, torch.stack([x0[0], 0.6 * x0[1] + 0.8 * eps[1], eps[2]]))


def test_labels_are_dropped_by_one_coin_per_sample() -> None:
    """In every batch some are dropped and some are not, which one coin per batch could not do; at the right
    rate, independently of the neighbour, and a kept label is unchanged."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(1000) % 10
    drawn = torch.stack([drop_labels(y, 10, 0.2, rng) for _ in range(50)])
    dropped = drawn == 10
    assert torch.equal(drawn[~dropped], y.expand(50, -1)[~dropped])
    rates = dropped.double().mean(1)
    assert ((rates > 0.14) & (rates < 0.26)).all()  # 5 standard errors about 0.2
    both = (dropped[:, 1:] & dropped[:, :-1]).double().mean()
    assert float(both) == pytest.approx(0.04, abs=0.005)


def test_a_share_of_zero_drops_nothing() -> None:
    y = torch.arange(10)
    assert torch.equal(drop_labels(y, 10, 0.0, torch.Generator()), y)


def test_the_null_label_exists_only_where_labels_are_dropped() -> None:
    guided, plain = make("ddpm"), make("ddpm", label_drop=0.0)
    assert guided.conditions["class"].null == 10
    assert guided.denoiser.embed.num_embeddings == 11
    assert plain.conditions["class"].null is None
    assert plain.denoiser.embed.num_embeddings == 10
    with pytest.raises(CallError, match=r"conditioning\.drop above 0"):
        make("ddpm", label_drop=0.0, guidance=2.0)


def test_guidance_moves_along_the_difference_that_the_label_makes() -> None:
    """One DDIM step from the same noise is affine in w: s(2) − s(1) = s(1) − s(0), unclipped."""
    model = make("ddpm").eval()
    free, plain, strong = (
        model.sample(3, seed=1, steps=1, clip=0.0, guidance=w, condition=4) for w in (1e-9, 1.0, 2.0)
    )
    torch.testing.assert_close(strong - plain, plain - free, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(strong, plain, atol=1e-5)
    null = model.sample(3, seed=1, steps=1, clip=0.0, condition=10)
    torch.testing.assert_close(free, null, atol=1e-5, rtol=0)


def test_the_loss_of_a_perfect_denoiser_is_zero() -> None:
    """With the data at one point, ε = (x_t − α x₀)/σ is known: a network that says so has no loss left."""
    model = make("ddpm", DataSpec.of("image", (1, 8, 8)), prediction="epsilon")
    data = batch(model.spec)
    a, s = model.path.alphas, model.path.sigmas

    class Perfect(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            at, st = (v[t.long()].reshape(-1, 1, 1, 1) for v in (a, s))
            return (x - at * data.x) / st

    model.denoiser = Perfect()
    assert float(model.loss("denoiser", data, context())["denoiser"]) < 1e-8


def test_every_timestep_is_trained() -> None:
    """Uniform over 0 … T−1, both ends included: χ² of 20 000 draws stays below its 99.99 % point."""
    model = make("ddpm", DataSpec.of("image", (1, 8, 8)))
    seen = torch.zeros(50)

    class Listening(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            seen.index_add_(0, t.long(), torch.ones(len(t)))
            return torch.zeros_like(x)

    model.denoiser = Listening()
    for s in range(20):
        model.loss("denoiser", batch(model.spec, n=1000), context(s))
    chi2 = float(((seen - 400.0) ** 2 / 400.0).sum())
    assert chi2 < 96.0  # 49 degrees of freedom


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(CallError, match="multiples of its 8 groups"):
        make("ddpm", widths=(12,))
    with pytest.raises(CallError, match="cannot be halved 4 times"):
        make("ddpm", widths=(8, 8, 8, 8, 8))
    with pytest.raises(CallError, match="−1 … 1"):
        make("ddpm", DataSpec.of("image", (1, 8, 8), low=0.0, high=1.0))
