"""Inpainting: what is known is there exactly at the end, and at every level on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from niwaki import models
from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.deployment import export_graphs, package
from niwaki_runtime import load
from niwaki_runtime.process import END, Karras, LinearPath, Process, VariancePreserving
from niwaki_runtime.samplers import Diffusion, Inpaint, Noise, NumpyBackend, OneShot, sampler_from_json

SHAPE = (1, 4, 4)
RNG = np.random.default_rng(0)
KNOWN = RNG.uniform(-1, 1, (3, *SHAPE)).astype(np.float32)
MASK = (RNG.random((3, *SHAPE)) < 0.5).astype(np.float32)
PATHS = [VariancePreserving(), Karras(), LinearPath()]


class Still:
    """A denoiser that says the same of everything."""

    state = ()

    def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return 0.3 * x


def run(sampler: Inpaint | Diffusion, mask: np.ndarray = MASK, **options: object) -> np.ndarray:
    noise = Noise(NumpyBackend(), 5, 0, 3)
    return sampler({"denoiser": Still()}, noise, {"known": KNOWN, "mask": mask}, **options)


def diffusion(process: Process, **changes: object) -> Diffusion:
    return Diffusion(shape=SHAPE, steps=6, process=process, prediction="x0", **changes)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m"])
def test_known_values_come_out_as_they_were_given(process: Process, solver: str) -> None:
    made = run(Inpaint(diffusion(process, solver=solver)))
    assert np.array_equal(made[MASK == 1], KNOWN[MASK == 1])
    assert np.isfinite(made).all()
    assert np.array_equal(run(Inpaint(diffusion(process, solver=solver)), np.ones_like(MASK)), KNOWN)


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_with_nothing_known_it_is_the_sampler_itself(process: Process) -> None:
    plain = diffusion(process)
    np.testing.assert_array_equal(run(Inpaint(plain), np.zeros_like(MASK)), run(plain))


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_on_the_way_the_known_part_has_the_level_of_its_time(process: Process) -> None:
    """After every step x is α known + σ ε, ε the draws of the stream `project`."""
    sampler, seen = Inpaint(diffusion(process)), []

    class Watched(Still):
        def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
            seen.append(x)
            return super().__call__(x, t)

    noise = Noise(NumpyBackend(), 5, 0, 3)
    sampler({"denoiser": Watched()}, noise, {"known": KNOWN, "mask": MASK})
    times = [*process.times(6), END]
    for k in range(1, 6):
        a, s = process.alpha_sigma(times[k])
        expected = a * KNOWN + s * noise.normal(SHAPE, stream="project", draw=k - 1)
        inside = process.network_input(expected, a, s)
        np.testing.assert_allclose(seen[k][MASK == 1], inside[MASK == 1], atol=1e-5)


def test_a_callers_own_projection_comes_first() -> None:
    made = run(Inpaint(diffusion(PATHS[0])), project=lambda x, t, draw: x * 0 + 0.25)
    assert np.array_equal(made[MASK == 1], KNOWN[MASK == 1])
    assert np.all(made[MASK == 0] == np.float32(0.25))


def test_it_is_plain_data_and_its_options_are_the_samplers() -> None:
    sampler = Inpaint(diffusion(PATHS[1]), known="image", mask="where")
    assert sampler_from_json(sampler.to_json()) == sampler
    changed = sampler.override(steps=9)
    assert changed.sampler.steps == 9
    assert changed.evaluations() == changed.sampler.evaluations()
    assert changed.graphs_used() == ("denoiser",)
    with pytest.raises(CallError, match="no option 'stpes'"):
        sampler.override(stpes=3)
    with pytest.raises(CallError, match="repeats must be at least 1"):
        sampler.override(repeats=0)
    with pytest.raises(CallError, match="around a diffusion sampler"):
        sampler_from_json({**sampler.to_json(), "sampler": OneShot().to_json()})


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
@pytest.mark.parametrize("repeats", [2, 4])
def test_repeated_steps_keep_what_is_known_and_count_their_calls(process: Process, repeats: int) -> None:
    sampler = Inpaint(diffusion(process, solver="ddim"), repeats=repeats)
    calls: list[tuple[int, int]] = []
    made = run(sampler, progress=lambda *done: calls.append(done))
    assert np.array_equal(made[MASK == 1], KNOWN[MASK == 1])
    assert np.isfinite(made).all()
    assert calls[-1] == (6 * repeats, 6 * repeats)
    assert len(calls) == sampler.evaluations() == 6 * repeats
    assert sampler_from_json(sampler.to_json()) == sampler
    assert sampler.override(repeats=1, steps=3) == Inpaint(
        diffusion(process, solver="ddim").override(steps=3)
    )


@pytest.mark.parametrize("process", PATHS, ids=lambda p: p.kind)
def test_noising_back_gives_the_level_of_the_time_before(process: Process) -> None:
    """With all known x' is α' x₀ + σ' ε, and what a repeated step asks of is α x₀ + σ ε again."""
    seen: list[np.ndarray] = []

    class Watched(Still):
        def __call__(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
            seen.append(x)
            return super().__call__(x, t)

    n, shape = 4, (1, 60, 60)
    sampler = Inpaint(Diffusion(shape=shape, steps=6, process=process, prediction="x0"), repeats=2)
    known = np.zeros((n, *shape), np.float32)
    sampler({"denoiser": Watched()}, Noise(NumpyBackend(), 1, 0, n), {"known": known, "mask": known + 1})
    for i, t in enumerate(process.times(6)):
        a, s = process.alpha_sigma(t)
        want = process.network_input(s, a, s)
        assert seen[2 * i + 1].std() == pytest.approx(want, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", pytest.param("edm", marks=pytest.mark.slow)])
def test_a_model_and_its_bundle_inpaint_alike(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"widths": (8,), "blocks": 1, "attention": (), "steps": 3}
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=4)
    model: GenerativeModel = models.build(name, settings, spec).eval()
    rng = np.random.default_rng(1)
    asked = {
        "known": rng.uniform(-1, 1, (3, 1, 8, 8)).astype(np.float32),
        "mask": (rng.random((3, 1, 8, 8)) < 0.5).astype(np.float32),
        "class": np.array([1, 0, 3]),
    }
    wanted = model.run("inpaint", 3, seed=2, inputs=asked).numpy()
    assert np.array_equal(wanted[asked["mask"] == 1], asked["known"][asked["mask"] == 1])
    assert "inpaint" in model.shipped_programs(), "it needs no further graph"
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "one.niwaki")
    for engine in ("openvino", "onnxruntime"):
        made = load(bundle, engine=engine, precision="exact").run("inpaint", 3, seed=2, inputs=asked)
        assert np.array_equal(made[asked["mask"] == 1], asked["known"][asked["mask"] == 1])
        np.testing.assert_allclose(made, wanted, atol=1e-4)
