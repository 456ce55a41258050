"""Flux's shape: squares of latents at rotary positions, and a weight of guidance that the network is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError
from niwaki_runtime import noise

diffusers = pytest.importorskip("diffusers")

STEPS, SEED, N = 5, 3, 3
LENGTH = 20
CLOSE = 1e-4
PROMPTS = ["a three", "", "a seven"]


def scheduler(**settings: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def theirs(pipeline: Any, prompts: list[str], height: int = 8, width: int = 8, **options: Any) -> np.ndarray:
    shape = (4, height // 2, width // 2)
    latents = torch.from_numpy(noise.normal(SEED, 0, N, shape))
    latents = pipeline._pack_latents(latents, N, *shape)
    options = {"num_inference_steps": STEPS, "max_sequence_length": LENGTH, **options}
    made: np.ndarray = pipeline(
        prompts, latents=latents, height=height, width=width, output_type="np", **options
    ).images
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guided": False},
        {"num_layers": 2, "num_single_layers": 0},
        {"num_layers": 0, "axes_dims_rope": (2, 10, 4)},
        {"scheduler": {"shift": 1.0}},
        {"scheduler": {"shift": 3.0}},
        {"scheduler": {"use_dynamic_shifting": True, "base_image_seq_len": 2, "max_image_seq_len": 16}},
        {"scheduler": {"use_dynamic_shifting": True, "time_shift_type": "linear"}},
    ],
    ids=["dev", "schnell", "double", "single", "unshifted", "shifted", "dynamic", "dynamic linear"],
)
def test_the_pipeline(settings: dict[str, Any], tmp_path: Path) -> None:
    options = dict(settings)
    if "scheduler" in options:
        options["scheduler"] = scheduler(**options["scheduler"])
    pipeline = pipelines.flux(tmp_path, **options)
    model = adapt_pipeline(pipeline, steps=STEPS, length=LENGTH, size=8)
    assert model.sampler().legs[0].guidance == 1.0  # type: ignore[attr-defined]
    wanted = theirs(pipeline, PROMPTS)
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    np.testing.assert_allclose(made, wanted, atol=CLOSE)
    assert wanted.std() > 0.01
    assert np.abs(theirs(pipeline, ["a nine"] * N) - wanted).max() > 10 * CLOSE, "the prompt changes nothing"


def test_guidance_is_told_to_the_network(tmp_path: Path) -> None:
    """`guidance_scale` of the pipeline: no second call."""
    pipeline = pipelines.flux(tmp_path)
    made = []
    for weight in (1.5, 9.0):
        model = adapt_pipeline(pipeline, steps=STEPS, length=LENGTH, size=8, guidance=weight)
        assert model.sampler().evaluations() == STEPS + 1
        made.append(pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS)))
        np.testing.assert_allclose(made[-1], theirs(pipeline, PROMPTS, guidance_scale=weight), atol=CLOSE)
    assert np.abs(made[0] - made[1]).max() > 10 * CLOSE


def test_a_network_that_is_told_none_is_guided_by_the_empty_prompt(tmp_path: Path) -> None:
    pipeline = pipelines.flux(tmp_path, guided=False)
    model = adapt_pipeline(pipeline, steps=STEPS, length=LENGTH, size=8, guidance=4.0)
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    wanted = theirs(pipeline, PROMPTS, true_cfg_scale=4.0, negative_prompt=[""] * N)
    np.testing.assert_allclose(made, wanted, atol=CLOSE)
    assert np.abs(theirs(pipeline, PROMPTS) - wanted).max() > 10 * CLOSE


def test_images_of_any_size(tmp_path: Path) -> None:
    pipeline = pipelines.flux(tmp_path)
    model = adapt_pipeline(pipeline, steps=2, length=LENGTH, size=(16, 8))
    assert model.spec.shape == (1, 16, 8)
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    wanted = theirs(pipeline, PROMPTS, 16, 8, num_inference_steps=2)
    np.testing.assert_allclose(made, wanted, atol=CLOSE)


@pytest.mark.slow
def test_sizes_and_prompts_are_as_the_pipeline_has_them(tmp_path: Path) -> None:
    model = adapt_pipeline(pipelines.flux(tmp_path), steps=2)
    assert model.sampler().legs[0].shape == (4, 128, 128)  # type: ignore[attr-defined]
    assert model.conditions["prompt"].shape == (pipelines.LENGTH + 512,)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (6, "makes images of multiples of 4 pixels, not 6×6"),
        (0, "makes images of multiples of 4 pixels, not 0×0"),
        ((8, 8, 8), "size is one number of pixels, or a height and a width"),
        ("8", "size is one number of pixels, or a height and a width"),
    ],
)
def test_a_size_that_is_none(size: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=message):
        adapt_pipeline(pipelines.flux(tmp_path), size=size)


def test_what_has_no_counterpart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="says the size of its images itself"):
        adapt_pipeline(pipelines.ddim(), size=8)
    with pytest.raises(CallError, match=r"takes 12 channels and its 'vae' has 4, 4 of each in a token"):
        adapt_pipeline(pipelines.flux(tmp_path / "narrow", in_channels=12))
    with pytest.raises(CallError, match="out_channels = 16 for in_channels = 32"):
        adapt_pipeline(pipelines.flux(tmp_path / "fill", in_channels=32, out_channels=16))
    with pytest.raises(CallError, match="patch_size = 2, which has no counterpart"):
        adapt_pipeline(pipelines.flux(tmp_path / "patch", patch_size=2))


def test_a_folder_is_read_as_the_pipeline_in_memory(tmp_path: Path) -> None:
    pipeline = pipelines.flux(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "folder")
    a, b = (adapt_pipeline(source, steps=2, length=12, size=8) for source in (tmp_path / "folder", pipeline))
    assert torch.equal(a.sample(1, seed=0, condition="a two"), b.sample(1, seed=0, condition="a two"))
    assert [port.name for port in a.graphs()["denoiser"].inputs] == ["x", "t", "states", "pooled"]


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun", "unipc"])
def test_other_solvers_go_the_same_way(solver: Any, tmp_path: Path) -> None:
    pipeline = pipelines.flux(tmp_path)
    made = [
        adapt_pipeline(pipeline, steps=steps, solver=s, length=4, size=8).sample(2, seed=0)
        for s, steps in ((solver, 30), ("euler", 120))
    ]
    assert (made[0] - made[1]).abs().mean() < 0.02
