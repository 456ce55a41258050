"""The sampler on every path: what a solver costs, what it returns at the end, and references written anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Cascade, Diffusion, Noise, NumpyBackend, OneShot, sampler_from_json
from niwaki_runtime.samplers.solvers import SOLVERS

MIX = np.random.default_rng(0).standard_normal((5, 5)) / 2
PATHS: dict[str, tuple[Process, str]] = {
    "variance preserving": (VariancePreserving(), "v"),
    "karras": (Karras(sigma_data=0.7), "edm"),
    "linear": (LinearPath(shift=2.0), "velocity"),
}
PAIRS = [
    (path, solver)
    for path, (process, _) in PATHS.items()
    for solver in SOLVERS
    if process.preserves_variance or not SOLVERS[solver].ancestral
]


class Double(NumpyBackend):
    """Noise in float64, so that nothing but the formulas is compared."""

    def normal(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return super().normal(*args, **kwargs).astype(np.float64)


class Counted:
    """Any network: what it says does not matter, how often it is asked does."""

    state = ()

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: np.ndarray, t: np.ndarray, *labels: np.ndarray) -> np.ndarray:
        assert len(t) == len(x)
        self.rows += len(x)
        return np.tanh(x @ MIX + t[:, None] / 1000)


def sampler(path: str, **options: Any) -> Diffusion:
    process, prediction = PATHS[path]
    return Diffusion((5,), process=process, prediction=prediction, **options)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("path", "solver"), PAIRS)
def test_the_evaluations_are_the_true_number_and_progress_counts_them(
    path: str, solver: str, guidance: float
) -> None:
    asked, null = (("label",), {"label": 9}) if guidance != 1.0 else ((), {})
    for batched in (True, False):
        made = sampler(
            path, solver=solver, steps=4, guidance=guidance, conditions=asked, null=null,
            guidance_batched=batched,
        )  # fmt: skip
        network, told = Counted(), list[tuple[int, ...]]()
        given = {name: np.zeros(3, np.int64) for name in asked}
        noise = Noise(Double(), 0, 0, 3)
        made({"denoiser": network}, noise, given, progress=lambda *at, to=told: to.append(at))
        assert network.rows == 3 * made.evaluations()
        assert made.evaluations() == (7 if SOLVERS[solver].evaluations(4) == 7 else 4) * (2 if asked else 1)
        each = 2 if asked else 1
        assert told == [(each * (i + 1), made.evaluations()) for i in range(made.evaluations() // each)]


def test_a_solver_says_what_it_costs() -> None:
    assert [SOLVERS["heun"].evaluations(n) for n in (1, 2, 12)] == [1, 3, 23]
    twice = {name for name in SOLVERS if SOLVERS[name].evaluations(4) == 7}
    assert twice == {"heun", "heun_ratio"}
    assert [SOLVERS["heun"].steps(n) for n in (1, 2, 3, 23, 24)] == [1, 1, 2, 12, 12]
    for name, solver in SOLVERS.items():
        for n in (1, 2, 9):
            assert solver.steps(solver.evaluations(n)) == n, name


@pytest.mark.parametrize(("path", "solver"), PAIRS)
def test_the_last_step_returns_x0_exactly(path: str, solver: str) -> None:
    made = sampler(path, solver=solver, steps=5, clip=0.0, guidance=1.0)
    said: list[np.ndarray] = []
    kept: list[np.ndarray] = []

    class Said(Counted):
        def __call__(self, x: np.ndarray, t: np.ndarray, *labels: np.ndarray) -> np.ndarray:
            said.append(super().__call__(x, t))
            return said[-1]

    def before(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        kept.append(x)
        return x

    x = made({"denoiser": Said()}, Noise(Double(), 1, 0, 3), {}, project=before)
    a, s = made.process.levels(5)[-2]
    x0, _ = made.process.conversion(made.prediction).to_x0_eps(kept[-2], said[-1], a, s)
    assert np.array_equal(x, x0)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("solver", [name for name in SOLVERS if not SOLVERS[name].ancestral])
def test_a_straight_field_is_followed_exactly(solver: str, steps: int) -> None:
    """The field of one point, which is linear in x, and a constant velocity from noise to data."""
    noise, point = Noise(Double(), 2, 0, 3), np.linspace(-1.0, 1.0, 5)
    flow = Diffusion((5,), process=LinearPath(shift=2.0), prediction="velocity", clip=0.0)
    flow = flow.override(solver=solver, steps=steps)
    start = noise.normal((5,))

    def to_the_point(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (x - point) / (t[:, None].astype(np.float64) / 1000.0)

    made = flow({"denoiser": to_the_point}, noise, {})
    np.testing.assert_allclose(made, np.broadcast_to(point, (3, 5)), atol=1e-5)
    if solver in ("ddim", "euler", "heun"):
        made = flow({"denoiser": lambda x, t: np.broadcast_to(point, x.shape)}, noise, {})
        np.testing.assert_allclose(made, start - point, atol=1e-9)


@pytest.mark.parametrize(("path", "solver"), PAIRS)
def test_what_is_pinned_after_every_step_stays(path: str, solver: str) -> None:
    """Inpainting by replacement: the hook sees every time that is reached, and the end keeps what it gave."""
    made, visited = sampler(path, solver=solver, steps=6), list[tuple[float, int]]()
    known = np.array([0.3, -0.8])

    def pin(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        visited.append((t, draw))
        a, s = made.level(t)
        assert (a, s) == made.process.levels(6)[draw + 1]
        noise = Noise(Double(), 5, 0, 3).normal((2,), stream="project", draw=draw)
        return np.concatenate([a * known + s * noise, x[:, 2:]], axis=1)

    x = made({"denoiser": Counted()}, Noise(Double(), 1, 0, 3), {}, project=pin)
    assert visited == [(t, i) for i, t in enumerate((*made.process.times(6)[1:], -1.0))]
    np.testing.assert_array_equal(x[:, :2], np.tile(known, (3, 1)))


@pytest.mark.parametrize("solver", ["euler", "ddim", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_straight_flow_is_integrated_exactly(solver: str, shift: float) -> None:
    """All data at one point: u = (x − c) / t, whose paths are the lines x = (1 − t) c + t ε."""
    c, noise = np.linspace(-0.9, 0.9, 5), Noise(Double(), 2, 0, 4)
    made = Diffusion(
        (5,), process=LinearPath(shift=shift), prediction="velocity", solver=solver, steps=4, clip=0.0
    )
    start = noise.normal((5,))

    def on_the_line(x: np.ndarray, t: float, draw: int) -> np.ndarray:
        a, s = made.level(t)
        np.testing.assert_allclose(x, a * c + s * start, atol=1e-12)
        return x

    graph = {"denoiser": lambda x, t: (x - c) / (t[:, None].astype(np.float64) / 1000)}
    x = made(graph, noise, {}, project=None if shift != 1.0 else on_the_line)
    np.testing.assert_allclose(x, np.tile(c, (4, 1)), atol=1e-6)


def heun_reference(denoise: Callable[..., Any], x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Karras et al. 2022, Algorithm 1, written in x and σ."""
    for now, after in pairwise(sigmas):
        d = (x - denoise(x, now)) / now
        there = x + (after - now) * d
        if after > 0:
            d = (d + (there - denoise(there, after)) / after) / 2
            there = x + (after - now) * d
        x = there
    return x


def multistep_reference(denoise: Callable[..., Any], x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """DPM-Solver++(2M) in t = −ln σ, as it is written for variance-exploding models."""
    old = None
    for i, (now, after) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, now)
        if after == 0:
            return x0
        h = np.log(now) - np.log(after)
        mixed = x0
        if old is not None:
            h_last = np.log(sigmas[i - 1]) - np.log(now)
            mixed = x0 + (x0 - old) * h / (2 * h_last)
        x, old = after / now * x + (1 - np.exp(-h)) * mixed, x0
    return x


@pytest.mark.parametrize(
    ("solver", "reference"), [("heun", heun_reference), ("dpmpp_2m", multistep_reference)]
)
def test_karras_against_a_reference_in_sigma(solver: str, reference: Callable[..., Any]) -> None:
    """The whole way: preconditioning, times and steps, by formulas that know nothing of ours."""
    data, steps, network = 0.7, 9, Counted()
    made = sampler("karras", solver=solver, steps=steps, clip=0.0)

    def denoise(x: np.ndarray, s: float) -> np.ndarray:
        given = x / np.sqrt(s**2 + data**2)
        said = network(given, np.full(len(x), np.log(s) / 4, np.float32))
        return (data**2 * x + s * data * np.sqrt(s**2 + data**2) * said) / (s**2 + data**2)

    ramp = np.arange(steps) / (steps - 1)
    sigmas = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    noise = Noise(Double(), 4, 0, 3)
    theirs = reference(denoise, 80.0 * noise.normal((5,)), np.append(sigmas, 0.0))
    np.testing.assert_allclose(made({"denoiser": network}, noise, {}), theirs, rtol=1e-6, atol=1e-9)


OLD = {
    "kind": "diffusion", "shape": [1, 8, 8], "graph": "denoiser", "solver": "dpmpp_2m", "steps": 9,
    "train_steps": 200, "schedule": "linear", "prediction": "epsilon", "spacing": "leading", "offset": 1,
    "last": "zero", "clip": 0.5, "consistent": False, "start_scale": 1.0, "conditions": [], "null": {},
    "encoders": {}, "guidance": 1.0, "guidance_batched": True,
}  # fmt: skip
"""As manifests of schema 2 and earlier have it."""


def test_old_manifests_are_read() -> None:
    made = sampler_from_json(OLD)
    path = VariancePreserving("linear", 200, "leading", 1, "zero")
    assert made == Diffusion(
        (1, 8, 8), solver="dpmpp_2m", steps=9, process=path, prediction="epsilon", clip=0.5, consistent=False
    )


@pytest.mark.parametrize("path", list(PATHS))
def test_json_there_and_back(path: str) -> None:
    made = sampler(path, steps=3)
    assert sampler_from_json(json.loads(json.dumps(made.to_json()))) == made
    legs = Cascade((made, OneShot(None, "decoder", ("code",))), ("code",))
    assert sampler_from_json(json.loads(json.dumps(legs.to_json()))) == legs


def test_fields_of_the_process_can_be_told_beside_it() -> None:
    made = sampler("karras", steps=4)
    assert made.override(spacing="trailing").process == Karras(sigma_data=0.7, spacing="trailing")
    other = made.override(process={"kind": "karras", "sigma_max": 10.0})
    assert other.process == Karras(sigma_max=10.0)
    assert Diffusion((2,), schedule="linear", train_steps=50, steps=5).process == VariancePreserving(
        "linear", 50
    )
    with pytest.raises(CallError, match="'karras' has no option 'schedule'"):
        made.override(schedule="linear")


def test_what_the_path_does_not_allow_is_refused() -> None:
    with pytest.raises(CallError, match="'ddpm' adds the noise of a variance-preserving process"):
        sampler("karras", solver="ddpm")
    with pytest.raises(CallError, match="has no prediction 'epsilon'; choose velocity, x0"):
        sampler("linear").override(prediction="epsilon")
