"""diffusers' schedulers of flow matching, as fields of our `Diffusion` and its process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import CallError
from niwaki_runtime.process import LinearPath
from niwaki_runtime.process.linear import CLOCK, shifted

__all__ = ["FLOW", "flow_fields"]

FLOW = ("FlowMatchEulerDiscreteScheduler",)


def flow_fields(
    options: Mapping[str, Any], solver: str | None, spacing: str | None, tokens: int
) -> dict[str, Any]:
    """What the scheduler does, or another solver on its path.

    options: all settings of the scheduler
    solver:  of ours, instead of Euler's
    spacing: `trailing` visits 1 − i/N before the shift; None is the scheduler's own, from 1 to its least time
    tokens:  of one image, on which a dynamic shift depends
    Raises CallError, naming the setting, for one that has no counterpart.
    """
    neutral = {
        "num_train_timesteps": int(CLOCK), "invert_sigmas": False, "shift_terminal": None,
        "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
        "stochastic_sampling": False,
    }  # fmt: skip
    for setting, value in neutral.items():
        if options[setting] != value and not (not value and not options[setting]):
            raise CallError(
                f"FlowMatchEulerDiscreteScheduler's {setting} {options[setting]!r} has no counterpart in "
                f"niwaki's sampler, only {value!r}"
            )
    dynamic = bool(options["use_dynamic_shifting"])
    shift = _dynamic_shift(options, tokens) if dynamic else float(options["shift"])
    # The least time is shifted when the scheduler is made, and once more when times are visited.
    least = 1.0 / CLOCK if dynamic else shifted(1.0 / CLOCK, shift)
    visited = {"spacing": spacing} if spacing else {"spacing": "linspace", "least": least}
    process = LinearPath(shift=shift, density="logit_normal", **visited)  # type: ignore[arg-type]
    return {"process": process, "solver": solver or "euler", "prediction": "velocity", "clip": 0.0}


def _dynamic_shift(options: Mapping[str, Any], tokens: int) -> float:
    """k of `shifted`: its μ is a straight line in the tokens of an image."""
    few, many = int(options["base_image_seq_len"]), int(options["max_image_seq_len"])
    low, high = float(options["base_shift"]), float(options["max_shift"])
    mu = low + (tokens - few) * (high - low) / (many - few)
    return math.exp(mu) if options["time_shift_type"] == "exponential" else mu
