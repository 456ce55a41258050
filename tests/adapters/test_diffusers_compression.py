"""The whole plan on every shape of pipeline, and fewer steps of those that work on latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch

import niwaki_runtime
from niwaki import data
from niwaki.adapters import AdaptedPipeline, adapt_pipeline
from niwaki.compression import CompressConfig, DistillConfig, SamplingConfig, compress
from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.compression.distillation.rules import asked_conditions
from niwaki.compression.steps import Outcome, StepContext, step_of
from niwaki.core.contract import Batch, CallError, Context
from niwaki.data import Dataset
from niwaki.models import load_model, save_model

pytest.importorskip("diffusers")

STEPS = 8


def gentle() -> Any:
    """So little noise that an untrained network's latents stay near 1, where its decoder is checked: by the
    published schedule they reach 200, and 8 bits between −200 and 200 leave nothing of normals."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_end=0.002, clip_sample=False)


KINDS: dict[str, Callable[[Path], AdaptedPipeline]] = {
    "unconditional": lambda path: adapt_pipeline(pipelines.ddim(), steps=STEPS),
    "text": lambda path: adapt_pipeline(
        pipelines.text_to_image(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS
    ),
    "two texts": lambda path: adapt_pipeline(
        pipelines.xl(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS
    ),
    "three texts": lambda path: adapt_pipeline(
        pipelines.sd3(path), steps=STEPS, guidance=2.0, captions=pipelines.CAPTIONS, length=12
    ),
    "classes": lambda path: adapt_pipeline(pipelines.dit(10, gentle()), steps=STEPS),
}
WHOLE: list[dict[str, Any]] = [
    {"kind": "prune", "ratio": 0.4, "round_to": 1, "min_width": 2},
    {"kind": "finetune", "steps": 3, "batch": 8},
    {"kind": "quantize", "calibration": 16},
]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load(data.DataConfig(source="digits"))


def alone(model: AdaptedPipeline, digits: Dataset, place: Path, config: Any) -> Outcome:
    """One step by itself, without export and measuring."""
    context = StepContext(model, digits, 0, place, None, lambda *_: None)
    return step_of(config.kind).carry_out(model, config, context)


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pruned_finetuned_and_quantized(kind: str, digits: Dataset, tmp_path: Path) -> None:
    model = KINDS[kind](tmp_path / "words")
    config = CompressConfig.model_validate({"steps": WHOLE, "batches": (1,), "rounds": 2})
    made = compress(model, digits, config, workdir=tmp_path / "small", seed=0)
    pruned, tuned, quantized = made.records
    assert pruned.parameters[1] < 0.9 * pruned.parameters[0]
    assert tuned.parameters[1] == pruned.parameters[1]
    assert sum(found["quantized"] for found in quantized.quantized.values()) > 0
    assert quantized.bytes < tuned.bytes
    again = load_model(tmp_path / "small")
    whole = again.sample(4, seed=3)
    assert torch.equal(whole, made.model.sample(4, seed=3))
    for engine in ("openvino", "onnxruntime"):
        images = niwaki_runtime.load(made.bundle, engine=engine).sample(4, seed=3)
        moved = np.abs(images - whole.numpy()).mean()
        assert moved < 0.5 * float((whole - whole.mean()).abs().mean())


@pytest.mark.slow
def test_packed_in_the_end(digits: Dataset, tmp_path: Path) -> None:
    """Wide enough for its weights to be most of the bundle."""
    model = adapt_pipeline(pipelines.ddim(widths=(32, 64)), steps=2)
    steps = [WHOLE[0], {"kind": "prune", "what": "weights", "ratio": 0.8}, *WHOLE[1:], {"kind": "pack"}]
    config = CompressConfig.model_validate({"steps": steps, "batches": (1,), "rounds": 2})
    made = compress(model, digits, config, workdir=tmp_path / "small", seed=0)
    *_, quantized, packed = made.records
    assert packed.bytes < 0.9 * quantized.bytes
    before = niwaki_runtime.load(tmp_path / "small" / "steps" / "4-quantize" / "model.niwaki")
    after = niwaki_runtime.load(made.bundle)
    np.testing.assert_array_equal(after.sample(2, seed=1), before.sample(2, seed=1))


@pytest.mark.parametrize("kind", ["text", "two texts", "three texts", "classes"])
@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_fewer_steps_on_latents(kind: str, method: str, digits: Dataset, tmp_path: Path) -> None:
    model = KINDS[kind](tmp_path / "words")
    assert diffusion_of(model).guidance > 1.0
    config = DistillConfig.model_validate({"evaluations": 4, "method": method, "steps": 4, "batch": 8})
    made = alone(model, digits, tmp_path, config)
    few = diffusion_of(made.model)
    assert (few.steps, few.guidance, few.evaluations()) == (4, 1.0, 4)  # guided as before, in one call
    save_model(made.model, tmp_path / "fewer")
    again = load_model(tmp_path / "fewer")
    assert diffusion_of(again) == few
    assert torch.equal(again.sample(2, seed=3), made.model.sample(2, seed=3))
    assert same(model.decoder, again.decoder)
    assert not same(model.denoiser, again.denoiser)
    with pytest.raises(CallError, match="samples in 8 steps; 8 are not fewer"):
        alone(model, digits, tmp_path, DistillConfig(evaluations=8))


@pytest.mark.slow
def test_fewer_steps_of_a_bundle(digits: Dataset, tmp_path: Path) -> None:
    model = KINDS["text"](tmp_path / "words")
    steps = [{"kind": "distill", "evaluations": 2, "steps": 4, "batch": 8}]
    config = CompressConfig.model_validate({"steps": steps, "measure": False})
    made = compress(model, digits, config, workdir=tmp_path / "small", seed=0)
    for engine in ("openvino", "onnxruntime"):
        images = niwaki_runtime.load(made.bundle, engine=engine, precision="exact").sample(2, seed=3)
        np.testing.assert_allclose(images, made.model.sample(2, seed=3).numpy(), atol=1e-3)


def test_what_is_dropped_is_what_the_sampler_calls_nothing(digits: Dataset, tmp_path: Path) -> None:
    """Captions are encoded: nothing asked is the encoded empty prompt, as the guided sampler asks it."""
    model = KINDS["text"](tmp_path / "words")
    sampler, graph = diffusion_of(model), model.graphs()["denoiser"]
    batch = Batch({"x": digits.train.values()[:6], "class": digits.train.y[:6]})
    ctx = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))
    (asked,) = asked_conditions(model, sampler, graph, batch, ctx, 0.0)
    (empty,) = asked_conditions(model, sampler, graph, batch, ctx, 1.0)
    assert model.text is not None
    assert torch.equal(asked, model.text(batch["class"]))
    assert torch.equal(empty, model.text(torch.full((6,), 10)))


@pytest.mark.slow
def test_halving_latents_teaches_what_the_teacher_does(digits: Dataset, tmp_path: Path) -> None:
    """Taught for a while, four steps lead nearer to where eight led than four of the untaught network do."""
    model = KINDS["text"](tmp_path / "words")

    def sampled(evaluations: int) -> torch.Tensor:
        config = SamplingConfig(evaluations=evaluations, spacing="trailing", solver="ddim")
        return alone(model, digits, tmp_path, config).model.sample(16, seed=3)

    lesson = DistillConfig(evaluations=4, steps=60, batch=32, lr=1e-3, ema=0.9, precision="fp32")
    taught = alone(model, digits, tmp_path, lesson).model.sample(16, seed=3)
    there, untaught = sampled(8), sampled(4)
    assert (taught - there).square().mean() < (untaught - there).square().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_another_solver_in_fewer_steps_is_kept(kind: str, digits: Dataset, tmp_path: Path) -> None:
    model = KINDS[kind](tmp_path / "words")
    config = SamplingConfig(evaluations=5, solver="dpmpp_2m", spacing="trailing")
    made = alone(model, digits, tmp_path, config)
    save_model(made.model, tmp_path / "other")
    few = diffusion_of(load_model(tmp_path / "other"))
    assert (few.steps, few.solver, few.process.spacing) == (5, "dpmpp_2m", "trailing")
    assert few.guidance == diffusion_of(model).guidance
    assert not torch.equal(made.model.sample(2, seed=1), model.sample(2, seed=1))
