"""How a denoiser is led: guidance within an interval, by a weaker network, and thresholds that move."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Noise, NumpyBackend, sampler_from_json
from niwaki_runtime.samplers.diffusion import _LATER
from niwaki_runtime.samplers.guidance import limited
from niwaki_runtime.samplers.solvers import SOLVERS

NOTHING, STEPS = 3, 6
LABEL = np.array([0, 2, 1])
MIX = np.random.default_rng(0).standard_normal((4, 4, 4)) / 2
PATHS: list[tuple[Process, tuple[float, float]]] = [
    (VariancePreserving(), (200.0, 700.0)),
    (Karras(), (0.05, 5.0)),
    (LinearPath(), (0.3, 0.8)),
]
CASES = [
    (process, interval, solver)
    for process, interval in PATHS
    for solver in SOLVERS
    if process.preserves_variance or not SOLVERS[solver].ancestral
]


class Network:
    """x₀ by x, the label and the time; it counts its rows and remembers its times and labels."""

    state = ()

    def __init__(self, strength: float = 1.0) -> None:
        self.strength, self.rows = strength, 0
        self.asked: list[tuple[float, np.ndarray]] = []

    def __call__(self, x: np.ndarray, t: np.ndarray, label: np.ndarray) -> np.ndarray:
        self.rows += len(x)
        self.asked.append((float(t[0]), label))
        return self.strength * np.tanh(np.einsum("ni,nij->nj", x, MIX[label]) + t[:, None] / 1000)


def sampler(process: Process | None = None, **options: Any) -> Diffusion:
    return Diffusion(
        (4,), process=process or VariancePreserving(), conditions=("label",), null={"label": NOTHING},
        **{"steps": STEPS, "prediction": "x0", "clip": 0.0, **options},
    )  # fmt: skip


def run(made: Diffusion, label: np.ndarray = LABEL, **graphs: Network) -> np.ndarray:
    return made({"denoiser": Network(), **graphs}, Noise(NumpyBackend(), 0, 0, 3), {"label": label})


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("process", "interval", "solver"), CASES, ids=lambda v: getattr(v, "kind", str(v)))
def test_outside_the_interval_one_evaluation_and_the_condition_alone(
    process: Process, interval: tuple[float, float], solver: str, batched: bool
) -> None:
    made = sampler(process, solver=solver, guidance=2.0, guidance_interval=interval, guidance_batched=batched)
    network, told = Network(), list[tuple[int, int]]()
    made(
        {"denoiser": network}, Noise(NumpyBackend(), 0, 0, 3), {"label": LABEL},
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    times = process.times(STEPS)
    counts = SOLVERS[solver].calls(STEPS)
    inside = [interval[0] <= t <= interval[1] for t in times]
    expected = sum(n * (2 if led else 1) for n, led in zip(counts, inside, strict=True))
    assert any(inside)
    assert not all(inside)
    assert made.evaluations() == expected == network.rows // 3
    assert told[-1] == (expected, expected)
    led = {process.network_time(t) for t, within in zip(times, inside, strict=True) if within}
    for t, label in network.asked:
        nulls = (label == NOTHING).any()
        assert not nulls or any(t == pytest.approx(at, rel=1e-6) for at in led)


@pytest.mark.parametrize(("process", "interval", "solver"), CASES, ids=lambda v: getattr(v, "kind", str(v)))
def test_everywhere_is_plain_guidance_and_nowhere_is_the_condition(
    process: Process, interval: tuple[float, float], solver: str
) -> None:
    everywhere, nowhere = (0.0, 1e9), (1e8, 1e9)
    led, plain = sampler(process, solver=solver, guidance=2.0), sampler(process, solver=solver)
    np.testing.assert_array_equal(run(led.override(guidance_interval=everywhere)), run(led))
    np.testing.assert_array_equal(run(led.override(guidance_interval=nowhere)), run(plain))
    assert not np.allclose(run(led), run(plain))
    assert not np.allclose(run(led.override(guidance_interval=interval)), run(led))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("process", "interval", "solver"), CASES, ids=lambda v: getattr(v, "kind", str(v)))
def test_weight_1_is_conditional_and_0_unconditional_in_one_evaluation_each(
    process: Process, interval: tuple[float, float], solver: str, batched: bool
) -> None:
    made = sampler(process, solver=solver, guidance_batched=batched)
    plain, free = made.override(guidance=1.0), made.override(guidance=0.0)
    assert plain.evaluations() == free.evaluations() == SOLVERS[solver].evaluations(STEPS)
    np.testing.assert_array_equal(run(free), run(plain, np.full(3, NOTHING)))
    nearly = run(made.override(guidance=1e-9)), run(made.override(guidance=1.0 + 1e-9))
    np.testing.assert_allclose(nearly[0], run(free), atol=1e-5)
    np.testing.assert_allclose(nearly[1], run(plain), atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.5])
def test_a_weaker_network_guides(weight: float) -> None:
    """D₀ + w (D₁ − D₀), both given the condition."""
    made = sampler(steps=1, guidance=weight, guide="weak")
    weak, strong = Network(0.4), Network()
    x = run(made, denoiser=strong, weak=weak)
    start = Noise(NumpyBackend(), 0, 0, 3).normal((4,))
    t = np.full(3, made.process.times(1)[0], np.float32)
    said, better = Network(0.4)(start, t, LABEL), Network()(start, t, LABEL)
    np.testing.assert_allclose(x, said + weight * (better - said), rtol=1e-6)
    assert made.evaluations() == (weak.rows + strong.rows) // 3
    assert made.graphs_used() == ("denoiser", "weak")


def test_a_network_guided_by_itself_is_itself() -> None:
    made = sampler(guidance=3.0, guide="weak", steps=5)
    np.testing.assert_allclose(run(made, weak=Network()), run(sampler(steps=5)), atol=1e-6)


def test_autoguidance_asks_for_no_null() -> None:
    made = Diffusion((4,), guidance=2.0, guide="weak", prediction="x0", clip=0.0, steps=2)
    both = {name: lambda x, t, k=k: k * np.tanh(x) for k, name in enumerate(("weak", "denoiser"))}
    assert made(both, Noise(NumpyBackend(), 0, 0, 2), {}).shape == (2, 4)
    with pytest.raises(CallError, match="null"):
        Diffusion((4,), guidance=2.0)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.995, 1.0])
@pytest.mark.parametrize("bound", [1.0, 2.0])
@pytest.mark.parametrize("backend", [NumpyBackend(), TorchBackend("cpu")], ids=["numpy", "torch"])
def test_the_threshold_is_the_quantile_of_each_sample(share: float, bound: float, backend: Any) -> None:
    x0 = np.random.default_rng(1).standard_normal((5, 2, 3, 3)).astype(np.float32)
    x0 *= np.array([0.1, 0.5, 1.0, 3.0, 10.0], np.float32).reshape(-1, 1, 1, 1)
    s = np.maximum(np.quantile(np.abs(x0).reshape(5, -1), share, axis=1), bound).reshape(-1, 1, 1, 1)
    found = limited(backend.asarray(x0), bound, share, Noise(backend, 0, 0, 5))
    np.testing.assert_allclose(backend.numpy(found), np.clip(x0, -s, s) * bound / s, rtol=1e-5)
    assert np.abs(backend.numpy(found)).max() <= bound * (1 + 1e-6)
    np.testing.assert_array_equal(backend.numpy(found)[0], x0[0])  # what is within stays as it is


@pytest.mark.parametrize(
    ("process", "prediction"), [(p, said) for p, _ in PATHS for said in p.predictions], ids=str
)
@pytest.mark.parametrize("threshold", [0.0, 0.9])
def test_x0_eps_and_x_agree_after_clipping(process: Process, prediction: str, threshold: float) -> None:
    """x = α x₀ + σ ε holds for what a solver is told, clipped or not (diffusers #1486 and others)."""
    made = sampler(process, prediction=prediction, clip=0.5, threshold=threshold)
    noise = Noise(NumpyBackend(), 0, 0, 3)
    ask = made.predictor({"denoiser": Network()}, noise, {"label": LABEL})
    for t in made.process.times(STEPS):
        a, s = made.level(t)
        x = 3.0 * noise.normal((4,)).astype(np.float64)
        x0, eps = ask(x, t, (a, s))
        assert np.abs(x0).max() <= 0.5 + 1e-6
        np.testing.assert_allclose(a * x0 + s * eps, x, rtol=1e-6, atol=1e-6)
        if threshold == 0.0:
            out = Network()(process.network_input(x, a, s), np.full(3, process.network_time(t)), LABEL)
            said, _ = process.conversion(prediction).to_x0_eps(x, out, a, s)
            np.testing.assert_allclose(x0, said.clip(-0.5, 0.5), rtol=1e-5, atol=1e-5)


OPTIONS: list[dict[str, Any]] = [
    {"guidance": 2.0, "guidance_interval": (1.0, 500.0)},
    {"guide": "weak", "guidance": 1.5},
    {"clip": 1.0, "threshold": 0.995},
    {"solver": "heun", "churn": 4.0, "churn_interval": (1.0, 900.0), "churn_noise": 1.003},
    {"solver": "ddim", "eta": 0.5},
    {"solver": "unipc"},
    {"start": "noise"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_go_through_json_and_stay_away_where_they_are_not_set(options: dict[str, Any]) -> None:
    made = sampler(**options)
    assert sampler_from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
    new = set(_LATER)
    assert new & set(made.to_json()) == new & set(options)  # older runtimes read what asks for nothing new


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_torch_and_numpy_agree(options: dict[str, Any]) -> None:
    if "start" in options:
        return
    made = sampler(**options)

    def over(*inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(Network()(*(v.numpy() for v in inputs)).astype(np.float32))

    here = run(made, weak=Network(0.4))
    there = made(
        {"denoiser": over, "weak": lambda *i: 0.4 * over(*i)}, Noise(TorchBackend("cpu"), 0, 0, 3),
        {"label": torch.from_numpy(LABEL)},
    )  # fmt: skip
    np.testing.assert_allclose(here, there.numpy(), atol=2e-4, rtol=1e-4)


def test_sampling_from_given_noise_is_sampling_from_drawn_noise() -> None:
    z = Noise(NumpyBackend(), 0, 0, 3).normal((4,))
    made = sampler(start="noise")
    assert made.conditions_used() == ("label", "noise")
    x = made({"denoiser": Network()}, Noise(NumpyBackend(), 9, 0, 3), {"label": LABEL, "noise": z})
    np.testing.assert_array_equal(x, run(sampler()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"guidance_interval": (5.0, 1.0)},
        {"threshold": 1.5, "clip": 1.0},
        {"threshold": 0.9, "clip": 0.0},
        {"eta": 0.5, "solver": "euler"},
        {"eta": 2.0},
        {"churn": 1.0},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallError):
        sampler(**wrong)
    with pytest.raises(CallError):
        Diffusion((4,), process=Karras(), prediction="edm", eta=0.5)
