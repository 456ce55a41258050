"""Samples under several conditions at once, with weights: what fits all, or one and not another."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import in_turn
from niwaki.uses.settings import listed
from niwaki_runtime.compose import compose
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.text_conditions import as_tokens

__all__ = ["Compose", "ComposeOptions"]


class ComposeOptions(UseOptions):
    """
    conditions: what is asked at once, each a table of names and values: [{class: 3}, {class: 8}]; a name that
                one leaves out asks for nothing there. Several values of one name are taken in turn
    factors:    what each counts; below 0 what is not to be. Default: 1 for each
    n:          samples
    steps:      of the sampler; 0 for its own number
    """

    conditions: tuple[dict[str, Any], ...] = ()
    factors: tuple[float, ...] = ()
    n: int = Field(16, ge=1)
    steps: int = Field(0, ge=0)

    @field_validator("factors", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value)


@register_use("compose")
class Compose(Use):
    """Of a diffusion model whose conditions can be left out. What is asked of all samples alike beside them
    (a picture that leads) is said by `--condition`."""

    Options = ComposeOptions
    summary = "samples under several conditions at once, with weights"
    example = 'runs/digits-ddpm "conditions=[{class: 3}, {class: 8}]" factors=1,-0.5 -o three.png'

    def apply(self, call: Call, options: ComposeOptions) -> Outcome:
        if not options.conditions:
            raise CallError("say what is asked at once, as conditions=[{class: 3}, {class: 8}]")
        program, n = call.model.program(SAMPLING), options.n
        settings: dict[str, Any] = {"steps": options.steps} if options.steps else {}
        x = compose(
            call.model, n, [_read(call, one, n) for one in options.conditions], options.factors or None,
            inputs=_read(call, call.asked, n), seed=call.seed, progress=call.progress, **settings,
        )  # fmt: skip
        weights = list(options.factors or (1.0,) * len(options.conditions))
        words = [f"{w:+g} × ({_words(one)})" for w, one in zip(weights, options.conditions, strict=True)]
        return Outcome(
            record={"n": n, "conditions": list(options.conditions), "weights": weights},
            lines=[f"{n} samples of nothing asked {' '.join(words)}"],
            x=np.asarray(call.model.backend().numpy(x)),
            spec=program.output,
            names=[f"sample {i}" for i in range(n)],
            ending=".png" if program.output.axes == "CHW" else ".npz",
        )


def _read(call: Call, asked: Any, n: int) -> dict[str, Any]:
    """Conditions by name: texts as tokens, several values in turn."""
    if asked is None:
        return {}
    if not isinstance(asked, dict):
        raise CallError("say by name what is asked beside the conditions, as --condition edges=…")
    inputs = call.model.program(SAMPLING).inputs
    return {k: as_tokens(call.model, inputs.get(k), in_turn(v, n)) for k, v in asked.items()}


def _words(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in one.items()) or "nothing"
