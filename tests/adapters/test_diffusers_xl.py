"""Stable Diffusion XL's shape: what two text encoders say, pooled states and sizes reach the denoiser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError
from niwaki_runtime import noise

pytest.importorskip("diffusers")

STEPS, SEED, N = 5, 3, 3
CLOSE = 1e-4
PROMPTS = ["a three", "", "a seven"]


def started() -> torch.Tensor:
    return torch.from_numpy(noise.normal(SEED, 0, N, (4, 4, 4)))


def theirs(pipeline: Any, prompts: list[str], **options: Any) -> np.ndarray:
    options = {"num_inference_steps": STEPS, "latents": started(), "output_type": "np", **options}
    made: np.ndarray = pipeline(prompts, **options).images
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"zeros": False},
        {"latents_mean": [0.5, 0.0, -0.5, 1.0], "latents_std": [1.5, 1.0, 0.5, 2.0]},
        {"shift_factor": 0.6},
    ],
)
def test_the_pipeline_with_guidance(settings: dict[str, Any], tmp_path: Path) -> None:
    pipeline = pipelines.xl(tmp_path, **settings)
    model = adapt_pipeline(pipeline, steps=STEPS)
    assert model.sampler().legs[0].guidance == 5.0  # type: ignore[attr-defined]
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    wanted = theirs(pipeline, PROMPTS)
    np.testing.assert_allclose(made, wanted, atol=CLOSE)
    others = theirs(pipeline, ["a nine"] * N)
    assert np.abs(others - wanted).max() > 10 * CLOSE, "the prompt changes nothing"


def test_nothing_asked_is_zeros_where_the_pipeline_says_so(tmp_path: Path) -> None:
    """An empty prompt is still encoded."""
    pipeline = pipelines.xl(tmp_path)
    model = adapt_pipeline(pipeline, steps=STEPS, guidance=1.0)
    assert model.text is not None
    asked = torch.from_numpy(model.read_prompts(["", "a three"]))
    encoded, nothing = model.text(asked), model.text(torch.full_like(asked, model.text.null))
    for part, none in zip(encoded, nothing, strict=True):
        assert part[0].abs().sum() > 0
        assert none.abs().sum() == 0
    made = pipelines.shown(model.sample(N, seed=SEED, condition=["", "", ""]))
    np.testing.assert_allclose(made, theirs(pipeline, [""] * N, guidance_scale=1.0), atol=CLOSE)


def test_captions_stand_for_classes(tmp_path: Path) -> None:
    pipeline = pipelines.xl(tmp_path)
    model = adapt_pipeline(pipeline, steps=STEPS, guidance=3.0, captions=pipelines.CAPTIONS)
    made = model.sample(N, seed=SEED, condition=np.array([3, 9, 0]))
    wanted = theirs(pipeline, ["a three", "a nine", "a zero"], guidance_scale=3.0)
    np.testing.assert_allclose(pipelines.shown(made), wanted, atol=CLOSE)


def test_a_folder_is_read_as_the_pipeline_in_memory(tmp_path: Path) -> None:
    pipeline = pipelines.xl(tmp_path / "words")
    pipeline.save_pretrained(tmp_path / "folder")
    a, b = (adapt_pipeline(source, steps=2) for source in (tmp_path / "folder", pipeline))
    assert torch.equal(a.sample(1, seed=0, condition="a two"), b.sample(1, seed=0, condition="a two"))
    assert [port.name for port in a.graphs()["denoiser"].inputs] == ["x", "t", "states", "pooled"]


def test_what_xl_needs_is_asked_for(tmp_path: Path) -> None:
    pipelines.xl(tmp_path / "words").save_pretrained(tmp_path / "folder")
    file = tmp_path / "folder" / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "addition_embed_type": "text"}))
    with pytest.raises(CallError, match=r"addition_embed_type = 'text', .* only 'text_time'"):
        adapt_pipeline(tmp_path / "folder", steps=2)
    pipeline = pipelines.xl(tmp_path / "words")
    pipeline.register_modules(text_encoder_2=None)
    with pytest.raises(CallError, match="has no 'text_encoder_2', which a StableDiffusionXLPipeline needs"):
        adapt_pipeline(pipeline, steps=2)
