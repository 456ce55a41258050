"""Our sampler makes what diffusers' pipelines and schedulers make of the same noise."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch

from niwaki.adapters import adapt_pipeline
from niwaki.core.contract import CallError
from niwaki_runtime import noise
from niwaki_runtime.samplers import sampler_from_json

diffusers = pytest.importorskip("diffusers")

STEPS, SEED, N = 6, 3, 3
CLOSE = 1e-4


def started(model: Any, n: int = N) -> torch.Tensor:
    """The noise that sample 0 … n−1 of the seed begin with."""
    shape = model.sampler().legs[0].shape if hasattr(model.sampler(), "legs") else model.sampler().shape
    return torch.from_numpy(noise.normal(SEED, 0, n, shape))


@cache
def text_to_image(directory: str) -> Any:
    return pipelines.text_to_image(Path(directory))


def test_ddim_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipelines.ddim()
    model = adapt_pipeline(pipeline, steps=STEPS)
    z = started(model)
    monkeypatch.setattr("diffusers.pipelines.ddim.pipeline_ddim.randn_tensor", lambda *a, **k: z)
    theirs = pipeline(batch_size=N, num_inference_steps=STEPS, output_type="np").images
    np.testing.assert_allclose(pipelines.shown(model.sample(N, seed=SEED)), theirs, atol=CLOSE)
    assert theirs.std() > 0.05


def test_ddpm_pipeline_with_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variance in ("fixed_small", "fixed_large"):
        scheduler = diffusers.DDPMScheduler(variance_type=variance)
        pipeline = pipelines.quietly(diffusers.DDPMPipeline(pipelines.unet(), scheduler))
        model = adapt_pipeline(pipeline, steps=STEPS)
        draws = [
            torch.from_numpy(noise.normal(SEED, 0, N, (1, 8, 8), stream="step", draw=i)) for i in range(STEPS)
        ]
        monkeypatch.setattr(
            "diffusers.pipelines.ddpm.pipeline_ddpm.randn_tensor", lambda *a, m=model, **k: started(m)
        )
        later = iter(draws)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, later=later, **k: next(later)
        )
        theirs = pipeline(batch_size=N, num_inference_steps=STEPS, output_type="np").images
        np.testing.assert_allclose(pipelines.shown(model.sample(N, seed=SEED)), theirs, atol=CLOSE)


def test_text_to_image_pipeline_with_guidance(tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path)
    prompts = ["a three", "", "a seven"]
    model = adapt_pipeline(pipeline, steps=STEPS)
    assert model.sampler().legs[0].guidance == 7.5  # type: ignore[attr-defined]
    theirs = pipeline(prompts, num_inference_steps=STEPS, latents=started(model), output_type="np").images
    np.testing.assert_allclose(
        pipelines.shown(model.sample(N, seed=SEED, condition=prompts)), theirs, atol=CLOSE
    )
    one = model.sample(1, seed=SEED, condition="a three")
    np.testing.assert_allclose(pipelines.shown(one), theirs[:1], atol=CLOSE)
    # Nothing asked is the empty prompt.
    nothing = pipelines.shown(model.sample(N, seed=SEED))
    np.testing.assert_allclose(nothing[1], theirs[1], atol=CLOSE)
    assert np.abs(nothing[0] - theirs[0]).max() > 10 * CLOSE, "the prompt changes nothing"


def test_captions_stand_for_classes(tmp_path: Path) -> None:
    pipeline = pipelines.text_to_image(tmp_path)
    model = adapt_pipeline(pipeline, steps=STEPS, guidance=3.0, captions=pipelines.CAPTIONS)
    assert (model.spec.classes, model.spec.class_names[3]) == (10, "a three")
    theirs = pipeline(
        ["a three", "a nine", ""], num_inference_steps=STEPS, guidance_scale=3.0, latents=started(model),
        output_type="np",
    ).images  # fmt: skip
    made = model.sample(N, seed=SEED, condition=np.array([3, 9, 10]))  # 10 is nothing
    np.testing.assert_allclose(pipelines.shown(made), theirs, atol=CLOSE)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_dit_pipeline(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipelines.dit()
    model = adapt_pipeline(pipeline, steps=STEPS, guidance=guidance)
    z = started(model)
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda *a, **k: z)
    asked = [1, 207, 999]
    theirs = pipeline(asked, guidance_scale=guidance, num_inference_steps=STEPS, output_type="np").images
    made = pipelines.shown(model.sample(N, seed=SEED, condition=np.array(asked)))
    np.testing.assert_allclose(made, theirs, atol=CLOSE)
    others = pipelines.shown(model.sample(N, seed=SEED, condition=3))
    assert np.abs(made - others).max() > 10 * CLOSE, "the class changes nothing"


def test_a_unet_with_classes_is_asked_for_them() -> None:
    pipeline = pipelines.ddim(num_class_embeds=5)
    model = adapt_pipeline(pipeline, steps=2)
    a, b = (model.sample(2, seed=0, condition=c) for c in (1, 4))
    assert model.spec.classes == 5
    assert not torch.allclose(a, b, atol=1e-3)


def walked(scheduler: Any, network: Any, z: torch.Tensor) -> torch.Tensor:
    """Their loop, as their pipelines write it."""
    scheduler.set_timesteps(STEPS)
    x = z * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = network(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(out, t, x).prev_sample
    return x


LINEAR = {"beta_schedule": "linear"}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
V = {"prediction_type": "v_prediction"}
X0 = {"prediction_type": "sample"}
OFFSET = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}
ZERO = {"rescale_betas_zero_snr": True}
BETAS = {"trained_betas": np.linspace(0.03, 0.17, 300) ** 2, "num_train_timesteps": 300}
KARRAS = {"use_karras_sigmas": True}
EXPONENTIAL = {"use_exponential_sigmas": True}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DDIM", {**LATENT, **V, "clip_sample": False}),
        ("DDIM", {**LATENT, **OFFSET, "set_alpha_to_one": False, "clip_sample": False}),
        ("DDIM", {**COSINE, **V, "clip_sample_range": 0.5}),
        ("DDIM", {**LINEAR, **X0}),
        ("DDIM", {"beta_start": 0.001, "beta_end": 0.05, **V, "num_train_timesteps": 300}),
        ("DPMSolverMultistep", {**LATENT, **V}),
        ("DPMSolverMultistep", {**LATENT, **OFFSET, **V}),
        ("DPMSolverMultistep", {**LATENT, **TRAILING, **V}),
        ("DPMSolverMultistep", {**LATENT, **TRAILING, **V, "solver_order": 1}),
        ("DPMSolverMultistep", {**LATENT, **V, "lower_order_final": False}),
        ("DPMSolverMultistep", {**LATENT, **V, "euler_at_final": True, "sample_max_value": 3.0}),
        ("EulerDiscrete", {**LATENT, **V}),
        ("EulerDiscrete", {**LATENT, **OFFSET, **V}),
        ("EulerDiscrete", {**LATENT, **TRAILING}),
        ("EulerDiscrete", {**LATENT, **V, "final_sigmas_type": "sigma_min"}),
        ("UniPCMultistep", {**LATENT, **V}),
        ("UniPCMultistep", {**LATENT, **OFFSET}),
        ("UniPCMultistep", {**COSINE, **TRAILING, **X0}),
        ("HeunDiscrete", {**LATENT, **V}),
        ("HeunDiscrete", {**LATENT, **OFFSET}),
        ("HeunDiscrete", {**LATENT, **TRAILING, **X0, "clip_sample": True, "clip_sample_range": 0.5}),
        ("DDIM", {**LATENT, **V, **ZERO, "clip_sample": False}),
        ("DDIM", {**LINEAR, **X0, **ZERO, **TRAILING, "num_train_timesteps": 300}),
        ("DPMSolverMultistep", {**LATENT, **V, **ZERO}),
        ("DPMSolverMultistep", {**LATENT, **V, **ZERO, **TRAILING}),
        ("DPMSolverMultistep", {**LATENT, **V, **ZERO, "solver_order": 1}),
        ("EulerDiscrete", {**LATENT, **V, **ZERO}),
        ("EulerDiscrete", {**LATENT, **V, **ZERO, **TRAILING}),
        ("UniPCMultistep", {**LATENT, **V, **ZERO}),
        ("DDIM", {**BETAS, "clip_sample": False}),
        ("DDIM", {**BETAS, **V, **ZERO, "clip_sample": False}),
        ("DPMSolverMultistep", {**BETAS, **V}),
        ("EulerDiscrete", {**BETAS, **V}),
        ("HeunDiscrete", {**BETAS, **V}),
        ("UniPCMultistep", {**BETAS, **V}),
        ("DPMSolverMultistep", {**LATENT, **V, **KARRAS}),
        ("DPMSolverMultistep", {**LATENT, **OFFSET, **KARRAS}),
        ("DPMSolverMultistep", {**BETAS, **V, **KARRAS}),
        ("DPMSolverMultistep", {**LATENT, **V, **ZERO, **KARRAS}),
        ("DPMSolverMultistep", {**LATENT, **V, **KARRAS, "solver_order": 1}),
        ("EulerDiscrete", {**LATENT, **V, **KARRAS}),
        ("EulerDiscrete", {**LATENT, **OFFSET, **KARRAS}),
        ("EulerDiscrete", {**LATENT, **TRAILING, **V, **KARRAS}),
        ("EulerDiscrete", {**LATENT, **V, **KARRAS, "sigma_min": 0.1, "sigma_max": 9.0}),
        ("EulerDiscrete", {**LATENT, **V, **ZERO, **KARRAS}),
        ("EulerDiscrete", {**LATENT, **V, **KARRAS, "final_sigmas_type": "sigma_min"}),
        ("EulerDiscrete", {**LATENT, **V, **EXPONENTIAL}),
        ("HeunDiscrete", {**LATENT, **V, **KARRAS}),
        ("HeunDiscrete", {**LATENT, **OFFSET, **KARRAS}),
        ("HeunDiscrete", {**BETAS, **V, **KARRAS}),
        ("HeunDiscrete", {**LATENT, **V, **EXPONENTIAL}),
        ("UniPCMultistep", {**LATENT, **V, **KARRAS}),
        ("UniPCMultistep", {**LATENT, **V, **KARRAS, "sigma_min": 0.1, "sigma_max": 9.0}),
        ("UniPCMultistep", {**LATENT, **V, **ZERO, **KARRAS}),
    ],
)
def test_schedulers(name: str, settings: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, f"{name}Scheduler")(**settings)
    pipeline = pipelines.ddim(scheduler)
    model = adapt_pipeline(pipeline, steps=STEPS)
    sampler = model.sampler()
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler
    theirs = walked(scheduler, pipeline.unet, started(model))
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(model.sample(N, seed=SEED) / scale, theirs / scale, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("DDIM", {"timestep_spacing": "linspace"}, "linspace"),
        ("DDIM", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr leaves pure noise"),
        ("DDIM", {"trained_betas": [0.1] * 10}, "10 trained_betas and num_train_timesteps 1000"),
        ("DDIM", {"trained_betas": [0.1, 1.5], "num_train_timesteps": 2}, "within 0 … 1 for each of the 2"),
        ("DDIM", {"thresholding": True}, "thresholding"),
        ("DDPM", {"variance_type": "learned_range"}, "variance_type 'learned_range'"),
        ("DDPM", {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ("DPMSolverMultistep", {"solver_order": 3}, "order 1 and 2, not 3"),
        ("DPMSolverMultistep", {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}, "rounded"),
        ("DPMSolverMultistep", {"use_exponential_sigmas": True}, "use_exponential_sigmas and .* rounded"),
        ("DPMSolverMultistep", {"use_beta_sigmas": True}, "use_beta_sigmas True"),
        ("DPMSolverMultistep", {"use_lu_lambdas": True}, "use_lu_lambdas True"),
        ("UniPCMultistep", {"solver_order": 3}, "solver_order 3"),
        ("UniPCMultistep", {"disable_corrector": [0]}, "disable_corrector"),
        ("UniPCMultistep", {"lower_order_final": False}, "lower_order_final False"),
        ("HeunDiscrete", {"use_beta_sigmas": True}, "use_beta_sigmas True"),
        ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type"),
        ("DPMSolverMultistep", {"use_dynamic_shifting": True}, "use_dynamic_shifting True"),
        ("EulerDiscrete", {"use_karras_sigmas": True, "sigma_max": 700.0}, "greatest_ratio 700 lies outside"),
        ("EulerDiscrete", {"interpolation_type": "log_linear"}, "interpolation_type 'log_linear'"),
        ("PNDM", {}, "no solver that does what PNDMScheduler does; name one of ours"),
        ("DEISMultistep", {}, "no solver that does what DEISMultistepScheduler does"),
    ],
)
def test_a_setting_without_a_counterpart_is_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    scheduler = getattr(diffusers, f"{name}Scheduler")(**settings)
    with pytest.raises(CallError, match=message) as refusal:
        adapt_pipeline(pipelines.ddim(scheduler), steps=STEPS)
    assert "\n" not in str(refusal.value)


def test_a_noise_schedule_changed_by_hand_is_refused() -> None:
    pipeline = pipelines.ddim()
    pipeline.scheduler.alphas_cumprod = pipeline.scheduler.alphas_cumprod**2
    with pytest.raises(CallError, match="scheduler's 'alphas_cumprod' was changed by hand"):
        adapt_pipeline(pipeline, steps=STEPS)


def test_a_solver_that_is_none_is_said() -> None:
    with pytest.raises(CallError, match="no solver 'dimm'; did you mean 'ddim'"):
        adapt_pipeline(pipelines.ddim(), solver="dimm")  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "euler", "heun", "unipc"])
def test_every_solver_may_be_named_on_every_schedule(solver: Any) -> None:
    settings = {**BETAS, **V, **KARRAS, **ZERO, **OFFSET, "sigma_min": 0.1, "sigma_max": 900.0}
    scheduler = diffusers.EulerDiscreteScheduler(**settings)
    model = adapt_pipeline(pipelines.ddim(scheduler), steps=3, solver=solver)
    assert torch.isfinite(model.sample(1, seed=0)).all()


def test_another_solver_may_be_named_on_the_pipelines_schedule() -> None:
    pipeline = pipelines.ddim(diffusers.PNDMScheduler(**LATENT, skip_prk_steps=True, **V))
    model = adapt_pipeline(pipeline, steps=STEPS, solver="ddim")
    scheduler = diffusers.DDIMScheduler(**LATENT, **V, clip_sample=False, set_alpha_to_one=False)
    theirs = walked(scheduler, pipeline.unet, started(model))
    torch.testing.assert_close(model.sample(N, seed=SEED), theirs, atol=CLOSE, rtol=0)
