"""The paths from data to noise: their levels, times and conversions, against formulas written here anew."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import (
    END,
    Karras,
    LinearPath,
    Process,
    VariancePreserving,
    process_from_json,
)
from niwaki_runtime.process.karras import c_in, c_noise, c_out, c_skip, edm_weight
from niwaki_runtime.process.linear import shifted
from niwaki_runtime.process.schedules import alpha_bars, timesteps

PROCESSES: list[Process] = [
    VariancePreserving(),
    VariancePreserving("linear(0.001, 0.02)", 200, "leading", 1, "zero"),
    VariancePreserving("sigmoid", zero_terminal_snr=True),
    VariancePreserving("linear", 500, "linspace", ratios="karras"),
    VariancePreserving("linear", 500, "leading", ratios="exponential", least_ratio=0.1, greatest_ratio=9.0),
    VariancePreserving("scaled_linear", zero_terminal_snr=True, terminal=2.0**-24, clock="nearest"),
    VariancePreserving(train_steps=40, betas=tuple(0.01 * (i + 1) for i in range(40))),
    Karras(),
    Karras(sigma_min=0.01, sigma_max=20.0, rho=5.0, spacing="trailing", sigma_data=0.7),
    LinearPath(),
    LinearPath(shift=3.0, density="logit_normal"),
    LinearPath(shift=3.0, spacing="linspace", least=0.01),
]


@pytest.fixture(params=PROCESSES, ids=lambda p: f"{p.kind}-{p.spacing}")
def process(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_json_there_and_back(process: Process) -> None:
    assert process_from_json(json.loads(json.dumps(process.to_json()))) == process


def test_ratios_lie_as_karras_and_others_have_them() -> None:
    """Even in the seventh root, or in the logarithm, between the ends that are named or visited."""
    for name, root in (("karras", lambda r: r ** (1 / 7)), ("exponential", math.log)):
        process = VariancePreserving("linear", ratios=name, spacing="linspace")
        ends = [VariancePreserving("linear").alpha_sigma(t) for t in (999, 0)]
        found = [s / a for a, s in process.levels(9)[:-1]]
        np.testing.assert_allclose([found[0], found[-1]], [s / a for a, s in ends], rtol=1e-9)
        np.testing.assert_allclose(np.diff([root(r) for r in found], n=2), 0.0, atol=1e-9)


def test_the_clock_may_be_told_whole_timesteps() -> None:
    process = VariancePreserving("linear", ratios="karras", clock="nearest")
    assert any(t % 1.0 for t in process.times(9))
    for t in process.times(9):
        assert process.network_time(t) == round(t)


def test_the_end_may_be_scaled() -> None:
    a, s = VariancePreserving("linear").alpha_sigma(0)
    assert VariancePreserving("linear", last="zero_scaled").levels(4)[-1] == (1.0, pytest.approx(s / a))


def test_levels_fall_to_the_end(process: Process) -> None:
    times, levels = process.times(7), process.levels(7)
    assert len(times) == 7
    assert len(levels) == 8
    assert times[-1] >= 0.0 > END
    assert all(a > b for a, b in pairwise(times))
    ratios = [s / a if a else math.inf for a, s in levels]
    assert all(a > b for a, b in pairwise(ratios))
    assert levels[-1] == process.alpha_sigma(END)
    if process != PROCESSES[1]:
        assert levels[-1] == (1.0, 0.0)


def test_the_time_of_a_level_is_found_again(process: Process) -> None:
    noisiest, *_, cleanest = process.times(7)
    for share in np.linspace(0.0, 1.0, 23):
        t = cleanest + share * (noisiest - cleanest)
        a, s = process.alpha_sigma(t)
        assert process.time_at(s / a if a else math.inf) == pytest.approx(t, rel=1e-6, abs=1e-6)


def test_nested_times_of_n_steps_are_every_other_one_of_twice_as_many(process: Process) -> None:
    nested = process.nested()
    for steps in (1, 2, 5, 8):
        assert nested.times(2 * steps)[::2] == pytest.approx(nested.times(steps), rel=1e-12)


def test_all_predictions_agree_at_every_time(process: Process) -> None:
    """What training asks for of each kind gives back the x₀ and ε that x was made of."""
    rng = np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, 4, 3))
    for a, s in process.levels(9)[:-1]:
        x = a * x0 + s * eps
        for prediction in process.predictions:
            if prediction == "epsilon" and getattr(process, "zero_terminal_snr", False):
                continue  # refused: pure noise says nothing of x₀
            known = process.conversion(prediction)
            found = known.to_x0_eps(x, known.target(x0, eps, a, s), a, s)
            scale = max(1.0, 1.0 / a if a else 1.0, s / a if a else 1.0, 1.0 / s)
            np.testing.assert_allclose(found[0], x0, atol=1e-12 * scale)
            np.testing.assert_allclose(found[1], eps, atol=1e-12 * scale)


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "leading"])
def test_variance_preserving_is_its_table(spacing: str) -> None:
    process = VariancePreserving("linear", 100, spacing)
    bars = alpha_bars("linear", 100)
    assert process.times(10) == timesteps(spacing, 100, 10)
    assert process.levels(10)[:-1] == [
        (math.sqrt(bars[int(t)]), math.sqrt(1.0 - bars[int(t)])) for t in process.times(10)
    ]
    # Between two timesteps σ/α is interpolated.
    ratio = [s / a for a, s in map(process.alpha_sigma, (40, 40.25, 41))]
    assert ratio[1] == pytest.approx(0.75 * ratio[0] + 0.25 * ratio[2], rel=1e-12)


def test_sigmoid_falls_as_the_sigmoid_does() -> None:
    """Jabri et al. 2022: ᾱ(u) = (σ(3) − σ(6u − 3)) / (σ(3) − σ(−3)); half of the signal is left half-way."""
    bars = alpha_bars("sigmoid", 1000)
    u = (np.arange(1000) + 1) / 1000
    low, high, at = (1 / (1 + np.exp(-v)) for v in (-3.0, 3.0, 6 * u - 3))
    np.testing.assert_allclose(bars[:-1], ((high - at) / (high - low))[:-1], rtol=1e-9)
    assert bars[499] == pytest.approx(0.5)
    assert 0.0 < bars[-1] < 1e-5


@pytest.mark.parametrize("schedule", ["cosine", "linear", "sigmoid", "scaled_linear"])
def test_zero_terminal_snr_is_diffusers_rescaling(schedule: str) -> None:
    diffusers = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    torch = pytest.importorskip("torch")
    betas = 1.0 - np.array(alpha_bars(schedule, 100)) / np.array([1.0, *alpha_bars(schedule, 100)[:-1]])
    rescaled = diffusers.rescale_zero_terminal_snr(torch.tensor(betas, dtype=torch.float64))
    wanted = torch.cumprod(1.0 - rescaled, 0).numpy()
    found = alpha_bars(schedule, 100, True)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found[-1] == 0.0
    assert found[0] == pytest.approx(alpha_bars(schedule, 100)[0], rel=1e-12)


def test_levels_beside_pure_noise_are_finite() -> None:
    process = VariancePreserving("cosine", 50, zero_terminal_snr=True)
    a, s = process.alpha_sigma(48.5)
    assert 0.0 < a < process.alpha_sigma(48)[0]
    assert a * a + s * s == pytest.approx(1.0)


def test_karras_times_are_those_of_the_paper() -> None:
    """The published default: 18 steps from 80 down to 0.002 at ρ = 7, by k-diffusion's way of writing it."""
    ramp = np.linspace(0, 1, 18)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    np.testing.assert_allclose(Karras().times(18), (high + ramp * (low - high)) ** 7, rtol=1e-12)
    assert Karras().times(1) == (80.0,)
    assert Karras().levels(18)[-1] == (1.0, 0.0)


@pytest.mark.parametrize("s", [0.002, 0.3, 1.0, 7.0, 80.0])
def test_preconditioning_keeps_the_variances_at_one(s: float) -> None:
    """Karras et al. 2022, Appendix B.6: Var[c_in x] = 1, Var[F's target] = 1, λ c_out² = 1, and c_skip is
    where c_out is least."""
    data = 0.7
    assert c_in(s, data) ** 2 * (data**2 + s**2) == pytest.approx(1.0)

    def output_variance(skip: float) -> float:
        """of x₀ − skip (x₀ + σ ε)"""
        return (1 - skip) ** 2 * data**2 + skip**2 * s**2

    skip = c_skip(s, data)
    assert output_variance(skip) / c_out(s, data) ** 2 == pytest.approx(1.0)
    assert output_variance(skip) <= min(output_variance(skip + d) for d in (-1e-3, 1e-3))
    assert edm_weight(s, data) * c_out(s, data) ** 2 == pytest.approx(1.0)
    assert c_noise(s) == pytest.approx(math.log(s) / 4)


def test_the_loss_weighs_each_prediction_so_that_the_error_of_x0_weighs_the_same() -> None:
    process, (x0, eps, wrong) = Karras(sigma_data=0.7), np.random.default_rng(1).standard_normal((3, 5))
    for a, s in process.levels(6)[:-1]:
        x = x0 + s * eps
        for prediction in process.predictions:
            known = process.conversion(prediction)
            said = known.target(x0, eps, a, s) + wrong
            error = known.to_x0_eps(x, said, a, s)[0] - x0
            assert process.loss_weight(prediction, a, s) * (wrong**2).sum() == pytest.approx(
                edm_weight(s, 0.7) * (error**2).sum(), rel=1e-6
            )


def test_velocity_is_the_derivative_of_the_straight_path() -> None:
    process, (x0, eps) = LinearPath(), np.random.default_rng(2).standard_normal((2, 5))
    t, h = 0.37, 1e-6
    ahead, behind = (a * x0 + s * eps for a, s in map(process.alpha_sigma, (t + h, t - h)))
    a, s = process.alpha_sigma(t)
    u = process.conversion("velocity").target(x0, eps, a, s)
    np.testing.assert_allclose((ahead - behind) / (2 * h), u, atol=1e-8)


def test_a_shift_of_times_scales_the_noise_to_signal_ratio() -> None:
    """σ/α = t/(1−t) becomes k times as large (Esser et al. 2024, Equation 22)."""
    for t in (0.1, 0.5, 0.9):
        there = shifted(t, 3.0)
        assert there / (1 - there) == pytest.approx(3.0 * t / (1 - t))
    assert (shifted(0.0, 3.0), shifted(1.0, 3.0)) == (0.0, 1.0)
    assert LinearPath().times(4) == (1.0, 0.75, 0.5, 0.25)


def test_training_times_have_the_distribution_that_is_said() -> None:
    from scipy import stats

    z = np.random.default_rng(3).standard_normal(4000)
    drawn = [Karras(mean=-1.2, std=1.2).training_time(v) for v in z]
    assert stats.kstest(np.log(drawn), stats.norm(-1.2, 1.2).cdf).pvalue > 0.01
    drawn = [LinearPath().training_time(v) for v in z]
    assert stats.kstest(drawn, stats.uniform.cdf).pvalue > 0.01
    drawn = [LinearPath(density="logit_normal").training_time(v) for v in z]
    assert stats.kstest(np.log(drawn) - np.log1p(-np.array(drawn)), stats.norm.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"kind": "karas"}, "did you mean 'karras'"),
        ({"kind": "karras", "sigma": 1.0}, "has no option 'sigma'"),
        ({"kind": "karras", "sigma_min": 90.0}, "must lie between 0 and sigma_max"),
        ({"kind": "karras", "spacing": "leading"}, "spacings karras, trailing"),
        ({"kind": "linear", "shift": 0.0}, "must be above 0"),
        ({"kind": "linear", "density": "normal"}, "has the densities"),
        ({"kind": "linear", "spacing": "leading"}, "spacings trailing, linspace"),
        ({"kind": "linear", "spacing": "linspace"}, "'least' time within 0 … 1, not 0"),
        ({"kind": "variance_preserving", "train_steps": 1, "zero_terminal_snr": True}, "at least two"),
        ({"kind": "variance_preserving", "schedule": "sigmoid(0.1, 0.2)"}, "a schedule that has a range"),
        ({"kind": "variance_preserving", "last": "dirty"}, "'clean' or at timestep 'zero'"),
        ({"kind": "variance_preserving", "ratios": "karas"}, "did you mean 'karras'"),
        (
            {
                "kind": "variance_preserving",
                "schedule": "linear",
                "zero_terminal_snr": True,
                "terminal": 0.01,
                "ratios": "karras",
            },
            "times cannot be found by their σ/α",
        ),
        ({"kind": "variance_preserving", "clock": "broken"}, "'exact' or the 'nearest' time"),
        ({"kind": "variance_preserving", "betas": [0.1, 0.2]}, "each of the 1000 timesteps; these are 2 "),
        ({"kind": "variance_preserving", "train_steps": 2, "betas": [0.1, 1.0]}, "numbers of 0.1 … 1"),
        ({"kind": "variance_preserving", "schedule": "linear", "greatest_ratio": 900.0}, "outside of the"),
    ],
)
def test_what_cannot_be_is_refused(record: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        process_from_json(record)


def test_a_prediction_of_another_path_is_refused() -> None:
    with pytest.raises(CallError, match="'karras' has no prediction 'v'; choose edm, epsilon, x0"):
        Karras().conversion("v")
    with pytest.raises(CallError, match="did you mean 'edm'"):
        Karras().conversion("edn")
    with pytest.raises(CallError, match="at least one step"):
        LinearPath().times(0)
