"""Each scheduler of diffusers that has a counterpart, as fields of our `Diffusion` and its process."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from niwaki.core.contract import CallError
from niwaki_runtime.process import VariancePreserving

__all__ = ["RATIOS_OF", "SCHEDULERS", "of_path"]

_PURE = 2.0**-24
"""ᾱ that the schedulers which divide by it put in the place of 0."""


def of_path(fields: dict[str, Any]) -> dict[str, Any]:
    """Takes out of `fields` those of the process."""
    return {f.name: fields.pop(f.name) for f in dataclasses.fields(VariancePreserving) if f.name in fields}


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


RATIOS_OF = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "exponential"}
"""Settings that place the visited times by their σ/α → the process's `ratios`."""
_OTHER_SIGMAS = ("use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")


def _needs(options: Mapping[str, Any], name: str, **wanted: Any) -> None:
    """Raises CallError for the first setting that is not as the translation needs it."""
    for setting, value in {**dict.fromkeys(_OTHER_SIGMAS, False), **wanted}.items():
        unset = value is False and options.get(setting) is None
        if setting in options and options[setting] != value and not unset:
            raise CallError(
                f"{name}'s {setting} {options[setting]!r} has no counterpart in niwaki's sampler, only "
                f"{value!r}"
            )


def _ratios(options: Mapping[str, Any]) -> dict[str, Any]:
    """Where the visited times lie: empty where the spacing says so."""
    named = [ratios for setting, ratios in RATIOS_OF.items() if options.get(setting)]
    if not named:
        return {}
    ends = {"least_ratio": options.get("sigma_min"), "greatest_ratio": options.get("sigma_max")}
    return {"ratios": named[0], **{name: float(end) for name, end in ends.items() if end is not None}}


def _dpm(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """DPM-Solver++(2M); of order 1 it is DDIM (Lu et al. 2022, Section 3)."""
    if options["solver_order"] not in (1, 2):
        raise CallError(f"niwaki has DPM-Solver++ of order 1 and 2, not {options['solver_order']}")
    _needs(options, "DPMSolverMultistepScheduler", algorithm_type="dpmsolver++", solver_type="midpoint",
           final_sigmas_type="zero", lambda_min_clipped=-math.inf, variance_type=None)  # fmt: skip
    solver = "dpmpp_2m" if options["solver_order"] == 2 else "ddim"
    return {"solver": solver, **_multistep(options, fields, "DPMSolverMultistepScheduler")}


def _unipc(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """UniPC of order 2 with B₂ on x₀."""
    _needs(options, "UniPCMultistepScheduler", solver_order=2, solver_type="bh2", predict_x0=True,
           lower_order_final=True, final_sigmas_type="zero")  # fmt: skip
    return {"solver": "unipc", **_multistep(options, fields, "UniPCMultistepScheduler")}


def _multistep(options: Mapping[str, Any], fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The times of solvers that leave out the cleanest one, or whose σ/α go through all that was trained."""
    spacing, found = options["timestep_spacing"], _ratios(options)
    terminal = {"terminal": _PURE} if fields["zero_terminal_snr"] else {}
    if not found:
        return {"spacing": spacing if spacing == "trailing" else f"{spacing}_open", **terminal}
    setting = next(key for key in RATIOS_OF if options.get(key))
    if setting == "use_exponential_sigmas" or options["beta_schedule"] == "squaredcos_cap_v2":
        # They cut the time off or repeat the first one: 998.9999 is told as 998, as rounding has it.
        raise CallError(
            f"{name} with {setting} and beta_schedule '{options['beta_schedule']}' tells its network times "
            "that depend on how they are rounded; only use_karras_sigmas on linear and scaled_linear has a "
            "counterpart"
        )
    path = VariancePreserving(**of_path({**fields, **terminal}))
    first, last = (path.alpha_sigma(t) for t in (path.train_steps - 1, 0))
    ends = {"least_ratio": last[1] / last[0], "greatest_ratio": first[1] / first[0]}
    return {**terminal, **ends, **found, "spacing": "linspace", "offset": 0, "clock": "nearest"}


def _of_ratios(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Times and start of solvers that step in σ/α (Euler's, Heun's)."""
    spacing, found = options["timestep_spacing"], _ratios(options)
    made = {
        **found,
        **({"terminal": _PURE} if fields["zero_terminal_snr"] else {}),
        "spacing": "linspace_exact" if spacing == "linspace" else spacing,
    }
    path = VariancePreserving(**of_path({**fields, **made}))
    start = path.alpha_sigma(path.timesteps - 1)[1]
    if "greatest_ratio" in found:
        start = math.sqrt(1.0 / (1.0 + found["greatest_ratio"] ** -2))
    # Where its first time is the last one trained, it starts from pure noise: σ ε without the α x₀.
    return {**made, "start_scale": 1.0 if spacing == "leading" else start}


def _euler(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Euler's step in x/α by σ/α is DDIM's (Song, Meng & Ermon 2021, Equation 14)."""
    _needs(
        options, "EulerDiscreteScheduler", interpolation_type="linear", timestep_type="discrete",
    )  # fmt: skip
    if fields["prediction"] == "x0":
        raise CallError("EulerDiscreteScheduler has no prediction_type 'sample'")
    last = "clean" if options["final_sigmas_type"] == "zero" else "zero_scaled"
    return {"solver": "ddim", "last": last, **_of_ratios(options, fields)}


def _heun(options: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    _needs(options, "HeunDiscreteScheduler")
    return {"solver": "heun_ratio", "clip": _clip(options), **_of_ratios(options, fields)}


SCHEDULERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "DPMSolverMultistepScheduler": _dpm,
    "EulerDiscreteScheduler": _euler,
    "HeunDiscreteScheduler": _heun,
    "UniPCMultistepScheduler": _unipc,
}
"""Schedulers that can be translated: (settings, fields so far) → more fields."""
