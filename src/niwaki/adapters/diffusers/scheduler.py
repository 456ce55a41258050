"""A diffusers scheduler as our own `Diffusion`: schedule, prediction, times and solver, or a refusal."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from niwaki.adapters.diffusers.flow_scheduler import FLOW, flow_fields
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.adapters.diffusers.solver_fields import RATIOS_OF, SCHEDULERS, of_path
from niwaki.core.contract import CallError
from niwaki_runtime.errors import first_line
from niwaki_runtime.process import VariancePreserving

__all__ = ["translate"]

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
_BY_SOLVER = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "consistency": "DDIMScheduler",  # of a model distilled here: only its levels are taken
}
_REMEDY = "; name one of ours with solver=… (ddim, ddpm, dpmpp_2m, euler, heun, unipc)"


def translate(
    kind: str,
    settings: Mapping[str, Any],
    solver: str | None = None,
    spacing: str | None = None,
    tokens: int = 0,
) -> dict[str, Any]:
    """The fields of `Diffusion` that do what the scheduler `kind` with these settings does.

    solver:  `ddim`, `ddpm`, `dpmpp_2m`, `euler`, `heun`, `unipc` or `consistency` on the noise schedule of
             the settings; None is the scheduler's own
    spacing: of the timesteps, instead of the scheduler's spacing and sigmas
    tokens:  of one image, on which the times of some depend
    Raises CallError, naming the setting, for one that has no counterpart.
    """
    try:
        return dict(_translated(kind, json.dumps(settings, sort_keys=True), solver, spacing, tokens))
    except (TypeError, ValueError, KeyError) as error:  # a damaged file
        raise CallError(f"the settings of {kind} cannot be read: {first_line(error)}") from error


@lru_cache(maxsize=32)
def _translated(
    kind: str, settings: str, solver: str | None, spacing: str | None, tokens: int
) -> dict[str, Any]:
    import diffusers

    name = _BY_SOLVER[solver] if solver and kind not in FLOW else kind
    if name not in SCHEDULERS and name not in FLOW:
        raise CallError(f"niwaki has no solver that does what {kind} does{_REMEDY}")
    given = json.loads(settings)
    try:
        with quiet():
            options = dict(getattr(diffusers, name).from_config(given).config)
    except Exception as error:  # settings that it was never made for lead it anywhere
        raise CallError(
            f"diffusers makes no {name} of the scheduler's settings: {first_line(error)}"
        ) from error
    if name in FLOW:
        _refuse_rest(name, options)
        return flow_fields(options, solver, spacing, tokens)
    if name != kind:
        # Another solver's own settings mean nothing to this one, and its defaults are not the pipeline's.
        options |= {"thresholding": False, "algorithm_type": "dpmsolver++", "solver_order": 2}
        options |= {"solver_type": "bh2" if name.startswith("UniPC") else "midpoint"}
        options |= {"clip_sample": given.get("clip_sample", False)}
    if spacing:
        options["timestep_spacing"] = spacing
        options |= dict.fromkeys(RATIOS_OF, False)
    if options.get("thresholding"):
        raise CallError("the scheduler's 'thresholding' has no counterpart in niwaki's sampler")
    _refuse_rest(name, options)
    prediction = options["prediction_type"]
    if prediction not in _PREDICTIONS:
        raise CallError(f"niwaki's sampler knows no prediction_type '{prediction}'")
    fields = {
        **_path(options),
        "prediction": _PREDICTIONS[prediction],
        "offset": int(options.get("steps_offset", 0)) if options["timestep_spacing"] == "leading" else 0,
        "spacing": options["timestep_spacing"],
        "clip": 0.0,
    }
    own = {"solver": solver} if solver == "consistency" else {}
    made = {**fields, **SCHEDULERS[name](options, fields), **own}
    process = VariancePreserving(**of_path(made))
    return {**made, "process": process}


_READ = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "timestep_spacing", "steps_offset", "rescale_betas_zero_snr", "thresholding", "clip_sample",
    "clip_sample_range", "set_alpha_to_one", "variance_type", "solver_order", "algorithm_type", "solver_type",
    "final_sigmas_type", "lambda_min_clipped", "interpolation_type", "timestep_type", "use_karras_sigmas",
    "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "sigma_min",
    "sigma_max", "predict_x0", "lower_order_final",
)  # fmt: skip
"""Settings that are translated, or looked at and refused."""
_READ_OF_FLOW = (
    "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
    "invert_sigmas", "shift_terminal", "stochastic_sampling",
)  # fmt: skip
"""Further ones of flow matching."""
_IDLE = (
    *("dynamic_thresholding_ratio", "sample_max_value"),  # of thresholding, which is refused
    "euler_at_final",  # the last step to σ = 0 is of the first order anyhow
    *("flow_shift", "time_shift_type"),  # of sigmas that are refused
)
"""Settings that do nothing where all others are as they must be."""


def _path(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the process that say its levels."""
    steps, betas = int(options["num_train_timesteps"]), tuple(options.get("trained_betas") or ())
    zero = bool(options.get("rescale_betas_zero_snr"))
    if zero and options["prediction_type"] == "epsilon":
        raise CallError(
            "the scheduler's rescale_betas_zero_snr leaves pure noise at the last timestep, where the "
            "prediction_type 'epsilon' determines no image; it needs 'v_prediction' or 'sample'"
        )
    if betas and len(betas) != steps:
        raise CallError(
            f"the scheduler has {len(betas)} trained_betas and num_train_timesteps {steps}; each needs one"
        )
    named = {"betas": betas} if betas else {"schedule": _schedule(options)}
    return {**named, "train_steps": steps, "zero_terminal_snr": zero}


def _refuse_rest(name: str, options: Mapping[str, Any]) -> None:
    """Raises CallError for a setting that is neither read nor idle, and is not at its default."""
    import diffusers

    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    read = (*_READ, *_IDLE, *(_READ_OF_FLOW if name in FLOW else ()))
    for setting, parameter in known.items():
        if setting in read or setting not in options:
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
