"""Several conditions at once: the sum of differences, on exact denoisers of Gaussians and of mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.backend import TorchBackend
from niwaki_runtime.compose import compose, composed
from niwaki_runtime.errors import CallError
from niwaki_runtime.process import Karras, LinearPath, VariancePreserving
from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.samplers import Diffusion, Inpaint, Noise, NumpyBackend, sampler_from_json
from niwaki_runtime.specs import ConditionSpec, Real, ValueSpec

PLANE = ValueSpec("vector", (2,), "C", Real(-np.inf, np.inf))
MEANS = np.array([[2.0, 0.0], [0.0, 3.0], [-2.0, -1.0]])
SPREAD = 0.5
NOTHING = len(MEANS)
STEPS, FEW = 40, 8
PROCESSES = [VariancePreserving(), Karras(sigma_max=20.0), LinearPath()]
WEIGHTS = [
    (1.0,),
    (2.5,),
    (1.0, 1.0),
    (0.5, 0.5),
    (1.0, -0.5),
    (0.0, -1.0),
    (1.0, 1.0, -1.0),
    (0.3, 0.3, 0.4),
]


class Exact:
    """x₀ of Gaussians N(MEANS[c], SPREAD²) by condition, and of all data without: N(0, wide²), or the mixture
    of the Gaussians. It counts rows and calls."""

    state = ()

    def __init__(self, process: Any, wide: float, mixture: bool) -> None:
        self.process, self.wide, self.mixture = process, wide, mixture
        self.rows, self.calls = 0, 0
        self.levels = {process.network_time(t): process.alpha_sigma(t) for t in process.times(STEPS)}
        self.levels |= {process.network_time(t): process.alpha_sigma(t) for t in process.times(FEW)}

    def __call__(self, x: Any, t: Any, label: Any) -> Any:
        given, label = np.asarray(x, np.float64), np.asarray(label)
        self.rows, self.calls = self.rows + len(given), self.calls + 1
        a, s = self.levels[min(self.levels, key=lambda known: abs(known - float(t[0])))]
        given = given / self.process.network_input(np.ones(1), a, s)[0]
        out = np.empty(given.shape, np.float32)
        for c in np.unique(label):
            out[label == c] = self.denoised(given[label == c], a, s, c)
        return torch.from_numpy(out) if isinstance(x, torch.Tensor) else out

    def denoised(self, x: np.ndarray, a: float, s: float, c: int) -> np.ndarray:
        """E(x₀ | a x₀ + s ε = x) of condition c, `(n, 2)`."""
        if c != NOTHING:
            return _mean(x, a, s, MEANS[c], SPREAD)
        if not self.mixture:
            return _mean(x, a, s, np.zeros(2), self.wide)
        far = np.square(x[:, None] - a * MEANS).sum(2) / (2 * (a * a * SPREAD**2 + s * s))
        share = np.exp(far.min(1, keepdims=True) - far)
        each = np.stack([_mean(x, a, s, m, SPREAD) for m in MEANS], 1)
        return np.asarray((share[:, :, None] * each).sum(1) / share.sum(1, keepdims=True))


def _mean(x: np.ndarray, a: float, s: float, mean: np.ndarray, spread: float) -> np.ndarray:
    """E(x₀ | a x₀ + s ε = x) of N(mean, spread²)."""
    v = a * a * spread**2 + s * s
    return np.asarray((a * spread**2 * x + s * s * mean) / v)


class Model(Runner):
    """The exact denoiser with a program `sample`, in numpy or in torch."""

    def __init__(
        self, process: Any, torch_too: bool = False, mixture: bool = False, wide: float = 4.0, **options: Any
    ) -> None:
        self.network, self.options = Exact(process, wide, mixture), options
        self.process, self.torch_too = process, torch_too

    def programs(self) -> Mapping[str, Program]:
        plan = Diffusion(
            (2,), process=self.process, conditions=("class",), null={"class": NOTHING}, prediction="x0",
            clip=0.0, **{"steps": STEPS, "solver": "heun", **self.options},
        )  # fmt: skip
        return {"sample": Program(plan, {"class": ConditionSpec.label(NOTHING, null=NOTHING)}, PLANE)}

    def callable_graphs(self) -> Mapping[str, Any]:
        return {"denoiser": self.network}

    def backend(self) -> Any:
        return TorchBackend("cpu") if self.torch_too else NumpyBackend()


def asked(labels: list[int]) -> list[dict[str, int]]:
    return [{"class": c} for c in labels]


def score(x: np.ndarray, x0: np.ndarray, a: float, s: float) -> np.ndarray:
    return (a * x0 - x) / (s * s)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_the_composed_score_is_the_sum_of_differences(
    process: Any, weights: tuple[float, ...], batched: bool, mixture: bool
) -> None:
    """∇ log p(x) + Σ wᵢ (∇ log p(x | cᵢ) − ∇ log p(x)), at every level."""
    model = Model(process, mixture=mixture)
    plan = composed(model.program("sample"), weights).sampler.override(guidance_batched=batched)
    labels = {"class" if k == 0 else f"class_{k + 1}": np.full(5, k % 3) for k in range(len(weights))}
    assert isinstance(plan, Diffusion)
    ask = plan.predictor(model.callable_graphs(), Noise(NumpyBackend(), 0, 0, 5), labels)
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    for t in process.times(STEPS)[5::9]:
        a, s = process.alpha_sigma(t)
        x0, _ = ask(x, t, (a, s))
        alone = [model.network.denoised(x, a, s, c) for c in (0, 1, 2, NOTHING)]
        free = score(x, alone[NOTHING], a, s)
        wanted = free + sum(w * (score(x, alone[k % 3], a, s) - free) for k, w in enumerate(weights))
        found = score(x, x0, a, s)
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("torch_too", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_one_condition_of_weight_1_is_conditional_sampling_exactly(process: Any, torch_too: bool) -> None:
    model = Model(process, torch_too)
    made = compose(model, 6, asked([1]), [1.0], seed=3)
    wanted = model.sample(6, seed=3, condition=1)
    np.testing.assert_array_equal(np.asarray(made), np.asarray(wanted))
    led = compose(model, 6, asked([1]), [2.5], seed=3)
    np.testing.assert_array_equal(
        np.asarray(led), np.asarray(model.sample(6, seed=3, condition=1, guidance=2.5))
    )


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_the_same_condition_twice_with_weights_that_add_up_is_that_condition(process: Any) -> None:
    model = Model(process)
    twice = compose(model, 4, asked([1, 1]), [0.25, 0.75], seed=3)
    np.testing.assert_allclose(twice, model.sample(4, seed=3, condition=1), atol=1e-4)
    away = compose(model, 4, asked([2, 1, 1]), [1.0, 0.5, -0.5], seed=3)
    np.testing.assert_allclose(away, model.sample(4, seed=3, condition=2), atol=1e-3)


def test_a_product_of_gaussians_has_the_right_mean_and_of_weights_beyond_1_not_the_right_width() -> None:
    """Scores of N(μᵢ, s²) by weights that add up to 1 are those of N(Σ wᵢ μᵢ, s²) at every level: of the
    product Π pᵢ^wᵢ. Where nothing asked tells nothing, those of p₁ p₂ add up to that of N(m, (s² + σ²)/2),
    and the noised product is N(m, s²/2 + σ²): with m in the middle of both; but along dx/dσ = 2 σ (x −
    m)/(s² + σ²) the width ends at σ_max s²/(s² + σ_max²), far from s/√2."""
    most, n = 20.0, 400
    model = Model(Karras(sigma_min=0.02, sigma_max=most), wide=1e6)
    middle = (MEANS[0] + MEANS[1]) / 2
    even = np.asarray(compose(model, n, asked([0, 1]), [0.5, 0.5], seed=1))
    np.testing.assert_allclose(even.mean(0), middle, atol=4 * SPREAD / n**0.5)
    np.testing.assert_allclose(even.std(0), SPREAD, rtol=0.12)
    both = np.asarray(compose(model, n, asked([0, 1]), [1.0, 1.0], seed=1))
    np.testing.assert_allclose(both.mean(0), middle, atol=0.01)
    np.testing.assert_allclose(both.std(0), most * SPREAD**2 / (SPREAD**2 + most**2), rtol=0.2)


def test_a_negative_weight_leads_away() -> None:
    """What is not of the first of three Gaussians: the others."""
    model = Model(Karras(sigma_min=0.02, sigma_max=20.0), mixture=True)
    plain = np.asarray(compose(model, 150, [{"class": NOTHING}], [1.0], seed=2))
    away = np.asarray(compose(model, 150, [{"class": NOTHING}, {"class": 0}], [1.0, -1.0], seed=2))

    def of_first(x: np.ndarray) -> float:
        return float((np.square(x[:, None] - MEANS).sum(2).argmin(1) == 0).mean())

    assert of_first(plain) == pytest.approx(1 / 3, abs=0.12)
    assert of_first(away) < 0.5 * of_first(plain)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    ("weights", "rows"),
    [((1.0,), 1), ((0.0,), 1), ((2.0,), 2), ((1.0, 1.0), 3), ((0.5, 0.5), 2), ((1.0, -1.0), 3)],
)
def test_what_counts_0_times_is_not_asked(weights: tuple[float, ...], rows: int, batched: bool) -> None:
    model = Model(VariancePreserving(), steps=FEW, solver="ddim", guidance_batched=batched)
    plan = composed(model.program("sample"), weights)
    compose(model, 3, asked(list(range(len(weights)))), weights)
    assert model.network.rows == 3 * FEW * rows
    assert model.network.calls == (FEW if batched else FEW * rows)
    assert plan.sampler.evaluations() == FEW * rows


def test_outside_the_interval_the_first_condition_alone() -> None:
    model = Model(VariancePreserving(), steps=FEW, solver="ddim")
    nowhere = compose(model, 3, asked([0, 1]), [1.0, -2.0], guidance_interval=(1e8, 1e9))
    np.testing.assert_array_equal(nowhere, model.sample(3, condition=0))
    assert model.network.rows == 2 * 3 * FEW


def test_each_sample_has_conditions_of_its_own() -> None:
    model = Model(LinearPath(), steps=FEW)
    rows = {"class": np.array([0, 1, 2])}, {"class": np.array([1, 1, 0])}
    together = compose(model, 3, rows, [1.0, 0.5], seed=4)
    for i in range(3):
        one = compose(model, 1, [{"class": int(r["class"][i])} for r in rows], [1.0, 0.5], seed=4, start=i)
        np.testing.assert_allclose(one[0], together[i], atol=1e-5)


def test_composing_is_plain_data_and_works_inside_other_samplers() -> None:
    model = Model(VariancePreserving())
    program = composed(model.program("sample"), (1.0, -0.5))
    assert Program.from_json(program.to_json()) == program
    assert list(program.inputs) == ["class", "class_2"]
    assert program.sampler.conditions_used() == ("class", "class_2")
    hidden = Program(Inpaint(model.program("sample").sampler), model.program("sample").inputs, PLANE)
    assert composed(hidden, (1.0, -0.5)).sampler.sampler == program.sampler  # type: ignore[attr-defined]
    record = model.program("sample").sampler.to_json()
    assert not {"also", "also_weights"} & record.keys()  # runtimes of before know nothing of it
    assert sampler_from_json(record) == model.program("sample").sampler


@pytest.mark.parametrize(
    ("conditions", "weights", "text"),
    [
        ([], [], "need one weight each"),
        ([{"class": 1}], [1.0, 2.0], "1 conditions need one weight each, not 2"),
        ([{"klass": 1}], None, "'klass' cannot be composed"),
        ([{"class": 1}, {"class": 7}], None, "condition 'class_2' has the value 7, outside"),
    ],
)
def test_wrong_calls_are_said(conditions: Any, weights: Any, text: str) -> None:
    with pytest.raises(CallError, match=text):
        compose(Model(LinearPath()), 2, conditions, weights)


def test_what_cannot_be_composed_is_said() -> None:
    bare = Program(Diffusion((2,)), {}, PLANE)
    with pytest.raises(CallError, match="a condition that can be left out"):
        composed(bare, (1.0, 1.0))
    plan = Model(LinearPath()).program("sample").sampler
    with pytest.raises(CallError, match="as many weights"):
        plan.override(also=(("class_2",),))
    with pytest.raises(CallError, match="no 'guide'"):
        plan.override(also=(("class_2",),), also_weights=(1.0,), guide="weak")
