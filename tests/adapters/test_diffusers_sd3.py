"""Stable Diffusion 3's shape: flow matching by a transformer that reads pictures and text side by side."""

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


def theirs(pipeline: Any, prompts: list[str], **options: Any) -> np.ndarray:
    latents = torch.from_numpy(noise.normal(SEED, 0, N, (4, 4, 4)))
    options = {"num_inference_steps": STEPS, "max_sequence_length": LENGTH, **options}
    made: np.ndarray = pipeline(prompts, latents=latents, output_type="np", **options).images
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"with_t5": False},
        {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
        {"scheduler": {"shift": 1.0}},
        {"scheduler": {"use_dynamic_shifting": True, "base_image_seq_len": 2, "max_image_seq_len": 16}},
        {"scheduler": {"use_dynamic_shifting": True, "time_shift_type": "linear"}},
    ],
    ids=["t5", "without t5", "3.5", "unshifted", "dynamic", "dynamic linear"],
)
def test_the_pipeline_with_guidance(settings: dict[str, Any], tmp_path: Path) -> None:
    options = dict(settings)
    if "scheduler" in options:
        options["scheduler"] = scheduler(**options["scheduler"])
    pipeline = pipelines.sd3(tmp_path, **options)
    model = adapt_pipeline(pipeline, steps=STEPS, length=LENGTH)
    assert model.sampler().legs[0].guidance == 7.0  # type: ignore[attr-defined]
    wanted = theirs(pipeline, PROMPTS)
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    np.testing.assert_allclose(made, wanted, atol=CLOSE)
    assert wanted.std() > 0.01
    assert np.abs(theirs(pipeline, ["a nine"] * N) - wanted).max() > 10 * CLOSE, "the prompt changes nothing"


def test_prompts_are_as_long_as_the_pipeline_has_them(tmp_path: Path) -> None:
    pipeline = pipelines.sd3(tmp_path)
    model = adapt_pipeline(pipeline, steps=2)
    made = pipelines.shown(model.sample(N, seed=SEED, condition=PROMPTS))
    wanted = theirs(pipeline, PROMPTS, num_inference_steps=2, max_sequence_length=256)
    np.testing.assert_allclose(made, wanted, atol=CLOSE)


def test_a_folder_is_read_as_the_pipeline_in_memory(tmp_path: Path) -> None:
    for with_t5 in (True, False):
        pipeline = pipelines.sd3(tmp_path / "words", with_t5=with_t5)
        pipeline.save_pretrained(tmp_path / "folder")
        a, b = (adapt_pipeline(source, steps=2, length=12) for source in (tmp_path / "folder", pipeline))
        assert torch.equal(a.sample(1, seed=0, condition="a two"), b.sample(1, seed=0, condition="a two"))


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "euler", "heun", "unipc"])
def test_other_solvers_go_the_same_way(solver: Any, tmp_path: Path) -> None:
    """With many steps all arrive where Euler's method does."""
    pipeline = pipelines.sd3(tmp_path, with_t5=False)
    made = [
        adapt_pipeline(pipeline, steps=steps, solver=s, guidance=1.0, length=4).sample(2, seed=0)
        for s, steps in ((solver, 30), ("euler", 120))
    ]
    assert (made[0] - made[1]).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift_terminal": 0.02}, "shift_terminal 0.02 has no counterpart"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas True has no counterpart"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas True has no counterpart"),
        ({"invert_sigmas": True}, "invert_sigmas True has no counterpart"),
        ({"stochastic_sampling": True}, "stochastic_sampling True has no counterpart"),
        ({"num_train_timesteps": 500}, "num_train_timesteps 500 has no counterpart"),
    ],
)
def test_a_setting_without_a_counterpart_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pipeline = pipelines.sd3(tmp_path, scheduler(**settings), with_t5=False)
    with pytest.raises(CallError, match=message):
        adapt_pipeline(pipeline, steps=2)


def test_length_is_of_pipelines_with_t5(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="tokens for T5, which a DDIMPipeline does not have"):
        adapt_pipeline(pipelines.ddim(), length=3)
    with pytest.raises(CallError, match="reads at least one of"):
        adapt_pipeline(pipelines.sd3(tmp_path), length=0)
