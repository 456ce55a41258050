"""A diffusers scheduler as our own `Diffusion`: schedule, prediction, times and solver, or a refusal."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from niwaki.adapters.diffusers.quiet import quiet
from niwaki.core.contract import CallError
from niwaki_runtime.errors import first_line
from niwaki_runtime.process import VariancePreserving

__all__ = ["SCHEDULERS", "translate"]

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
_BY_SOLVER = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "consistency": "DDIMScheduler",  # of a model distilled here: only its levels are taken
}
_REMEDY = "; name one of ours with solver=… (ddim, ddpm, dpmpp_2m, euler)"


def translate(
    kind: str, settings: Mapping[str, Any], solver: str | None = None, spacing: str | None = None
) -> dict[str, Any]:
    """The fields of `Diffusion` that do what the scheduler `kind` with these settings does.

    solver:  `ddim`, `ddpm`, `dpmpp_2m`, `euler` or `consistency` on the noise schedule of the settings;
             None is the scheduler's own
    spacing: of the timesteps, instead of the scheduler's
    Raises CallError, naming the setting, for one that has no counterpart.
    """
    try:
        return dict(_translated(kind, json.dumps(settings, sort_keys=True), solver, spacing))
    except (TypeError, ValueError, KeyError) as error:  # a damaged file
        raise CallError(f"the settings of {kind} cannot be read: {first_line(error)}") from error


@lru_cache(maxsize=32)
def _translated(kind: str, settings: str, solver: str | None, spacing: str | None) -> dict[str, Any]:
    import diffusers

    name = _BY_SOLVER[solver] if solver else kind
    if name not in SCHEDULERS:
        raise CallError(f"niwaki has no solver that does what {kind} does{_REMEDY}")
    given = json.loads(settings)
    try:
        with quiet():
            options = dict(getattr(diffusers, name).from_config(given).config)
    except Exception as error:  # settings that it was never made for lead it anywhere
        raise CallError(
            f"diffusers makes no {name} of the scheduler's settings: {first_line(error)}"
        ) from error
    if name != kind:
        # Another solver's own settings mean nothing to this one, and its defaults are not the pipeline's.
        options |= {"thresholding": False, "algorithm_type": "dpmsolver++", "solver_order": 2}
        options |= {"clip_sample": given.get("clip_sample", False)}
    if spacing:
        options["timestep_spacing"] = spacing
    for setting in ("trained_betas", "rescale_betas_zero_snr", "thresholding"):
        if options.get(setting):
            raise CallError(f"the scheduler's '{setting}' has no counterpart in niwaki's sampler")
    _refuse_rest(name, options)
    prediction = options["prediction_type"]
    if prediction not in _PREDICTIONS:
        raise CallError(f"niwaki's sampler knows no prediction_type '{prediction}'")
    fields = {
        "schedule": _schedule(options),
        "train_steps": int(options["num_train_timesteps"]),
        "prediction": _PREDICTIONS[prediction],
        "offset": int(options.get("steps_offset", 0)) if options["timestep_spacing"] == "leading" else 0,
        "spacing": options["timestep_spacing"],
        "clip": 0.0,
    }
    own = {"solver": solver} if solver == "consistency" else {}
    made = {**fields, **SCHEDULERS[name](options, fields), **own}
    path = {f.name: made.pop(f.name) for f in dataclasses.fields(VariancePreserving) if f.name in made}
    return {**made, "process": VariancePreserving(**path)}


_READ = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "timestep_spacing", "steps_offset", "rescale_betas_zero_snr", "thresholding", "clip_sample",
    "clip_sample_range", "set_alpha_to_one", "variance_type", "solver_order", "algorithm_type", "solver_type",
    "final_sigmas_type", "lambda_min_clipped", "interpolation_type", "timestep_type", "use_karras_sigmas",
    "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas",
)  # fmt: skip
"""Settings that are translated, or looked at and refused."""
_IDLE = (
    *("dynamic_thresholding_ratio", "sample_max_value"),  # of thresholding, which is refused
    *("lower_order_final", "euler_at_final"),  # the last step to σ = 0 is of the first order anyhow
    *("flow_shift", "time_shift_type", "sigma_min", "sigma_max"),  # of sigmas that are refused
)
"""Settings that do nothing where all others are as they must be."""


def _refuse_rest(name: str, options: Mapping[str, Any]) -> None:
    """Raises CallError for a setting that is neither read nor idle, and is not at its default."""
    import diffusers

    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    for setting, parameter in known.items():
        if setting in (*_READ, *_IDLE) or setting not in options:
            continue
        if options[setting] != parameter.default:
            raise CallError(
                f"{name}'s {setting} {options[setting]!r} has no counterpart in niwaki's sampler, only "
                f"{parameter.default!r}"
            )


def _schedule(options: Mapping[str, Any]) -> str:
    name = options["beta_schedule"]
    if name == "squaredcos_cap_v2":
        return "cosine"
    if name in ("linear", "scaled_linear"):
        return f"{name}({options['beta_start']!r}, {options['beta_end']!r})"
    raise CallError(f"niwaki's sampler knows no beta_schedule '{name}'")


def _clip(options: Mapping[str, Any]) -> float:
    return float(options["clip_sample_range"]) if options["clip_sample"] else 0.0


def _ddim(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Its pipelines leave ε as the network said it where x₀ is clipped."""
    if options["timestep_spacing"] == "linspace":
        # It steps by train // steps from times that lie further apart.
        raise CallError(
            "DDIMScheduler with timestep_spacing 'linspace' steps to times that it does not visit, which "
            "niwaki's sampler does not; make it 'trailing' or 'leading'"
        )
    last = "clean" if options["set_alpha_to_one"] else "zero"
    return {"solver": "ddim", "clip": _clip(options), "consistent": False, "last": last}


def _ddpm(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    variance = options["variance_type"]
    solvers = {"fixed_small": "ddpm", "fixed_small_log": "ddpm", "fixed_large": "ddpm_large"}
    if variance not in solvers:
        raise CallError(f"DDPMScheduler's variance_type '{variance}' has no counterpart in niwaki's sampler")
    return {"solver": solvers[variance], "clip": _clip(options)}


_OTHER_SIGMAS = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "use_flow_sigmas",
)


def _needs(options: Mapping[str, Any], name: str, **wanted: Any) -> None:
    """Raises CallError for the first setting that is not as the translation needs it."""
    for setting, value in {**dict.fromkeys(_OTHER_SIGMAS, False), **wanted}.items():
        if (
            setting in options
            and options[setting] != value
            and not (value is False and options[setting] is None)
        ):
            raise CallError(
                f"{name}'s {setting} {options[setting]!r} has no counterpart in niwaki's sampler, only "
                f"{value!r}"
            )


def _dpm(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """DPM-Solver++(2M); of order 1 it is DDIM (Lu et al. 2022, Section 3)."""
    if options["solver_order"] not in (1, 2):
        raise CallError(f"niwaki has DPM-Solver++ of order 1 and 2, not {options['solver_order']}")
    _needs(options, "DPMSolverMultistepScheduler", algorithm_type="dpmsolver++", solver_type="midpoint",
           final_sigmas_type="zero", lambda_min_clipped=-math.inf, variance_type=None)  # fmt: skip
    spacing = options["timestep_spacing"]
    return {
        "solver": "dpmpp_2m" if options["solver_order"] == 2 else "ddim",
        "spacing": spacing if spacing == "trailing" else f"{spacing}_open",
    }


def _euler(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Euler's step in x/α by σ/α is DDIM's (Song, Meng & Ermon 2021, Equation 14)."""
    _needs(
        options, "EulerDiscreteScheduler", interpolation_type="linear", timestep_type="discrete",
    )  # fmt: skip
    if fields["prediction"] == "x0":
        raise CallError("EulerDiscreteScheduler has no prediction_type 'sample'")
    spacing = options["timestep_spacing"]
    path = VariancePreserving(fields["schedule"], fields["train_steps"])
    _, start = path.alpha_sigma(path.timesteps - 1)
    return {
        "solver": "ddim",
        "spacing": "linspace_exact" if spacing == "linspace" else spacing,
        "last": "clean" if options["final_sigmas_type"] == "zero" else "zero",
        # Where its first time is the last one trained, it starts from pure noise: σ ε without the α x₀.
        "start_scale": 1.0 if spacing == "leading" else start,
    }


SCHEDULERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "DPMSolverMultistepScheduler": _dpm,
    "EulerDiscreteScheduler": _euler,
}
"""Schedulers that can be translated: (settings, fields so far) → more fields."""
