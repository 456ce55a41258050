"""What a request may set of a sampler: settings that change how samples come about, within bounds; never
which networks are called, or how large anything is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from niwaki.serving.settings import Limits
from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.programs import Program

__all__ = ["check_options", "check_work"]

SETTINGS = (
    "augmentation", "beams", "bias", "eta", "guidance", "length", "length_penalty", "min_p", "penalty",
    "regex", "repeats", "schema", "solver", "steps", "stop", "strength", "temperature", "top_k", "top_p",
    "truncation",
)  # fmt: skip


def check_options(options: Any, limits: Limits) -> dict[str, Any]:
    """The options of a request. Raises CallError for one that is not open to requests, and for a pattern that
    is too long."""
    if not isinstance(options, Mapping):
        raise CallError(f"options must be a table of settings, not {options!r:.60}")
    for name, value in options.items():
        if name not in SETTINGS:
            raise CallError(f"a request cannot set '{name}'; {nearest(name, SETTINGS)}")
        if len(value if isinstance(value, str) else json.dumps(value)) > limits.pattern:
            raise CallError(f"'{name}' is longer than {limits.pattern} characters")
    return dict(options)


def check_work(program: Program, options: Mapping[str, Any], limits: Limits) -> None:
    """Raises CallError where one sample would take more work than is allowed, and for a length that the model
    does not have."""
    known = program.sampler.options()
    sampler = program.sampler.override(**{k: v for k, v in options.items() if k in known and k != "stop"})
    most = max(limits.evaluations, program.sampler.evaluations())
    if sampler.evaluations() > most:
        raise CallError(
            f"a sample would take {sampler.evaluations()} evaluations of the network; {most} are allowed"
        )
    for name, bound in (("beams", limits.beams), ("length", getattr(program.sampler, "length", 0))):
        if name in options and not 0 < options[name] <= bound:
            raise CallError(f"'{name}' must be 1 … {bound}, not {options[name]}")
