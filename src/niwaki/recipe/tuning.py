"""The `tune:` section of a recipe: which settings are varied, between which values, and what is best."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["RangeConfig", "TuneConfig", "parse_choice", "parse_range"]

TUNED = ("data", "model", "train")
"""Sections whose settings decide the trained model."""


class RangeConfig(BaseConfig):
    """Numbers from `low` to `high`, both included; whole ones where both are whole.

    log:  orders of magnitude are equally likely, instead of equal distances
    step: only low, low + step, … up to `high`
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _a_range(self) -> RangeConfig:
        if not self.low < self.high:
            raise ValueError(f"'low' must be below 'high', and {self.low:g} is not below {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with 'log' begins above 0, not at {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("a range has 'log' or 'step', not both")
        return self

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))


class TuneConfig(BaseConfig):
    """How settings of a recipe are searched for.

    ranges:      by dotted key, `{train.lr: {low: 1e-4, high: 1e-2, log: true}, model.width: [32, 48, 64]}`
    objectives:  one or two of `fidelity`, `diversity`, `loss` (held out), a metric (`frechet`,
                 `recall@random`) or another figure of a judge; default: fidelity and diversity, of encoders
                 the loss
    constraints: `["diversity >= 0.8"]`: trials that miss one are never the best
    trials:      of the whole study, those of earlier calls included
    repeats:     trainings of each trial, with seeds one after another; the mean counts
    n:           samples that are judged in each
    prune:       `auto` ends trials that collapse (`train.watch`) and, where the loss is the objective, those
                 whose held-out loss is worse than the median; `median`, `hyperband`: by that loss whatever
                 the one objective is; `none` ends none
    startup:     trials drawn at random before the sampler (TPE) begins to learn from them
    seed:        of the sampler
    """

    ranges: dict[str, RangeConfig | tuple[Any, ...]] = Field({})
    objectives: tuple[str, ...] = Field(default=(), max_length=2)
    constraints: tuple[str, ...] = ()
    trials: int = Field(20, ge=1)
    repeats: int = Field(1, ge=1)
    n: int = Field(500, ge=50)
    prune: Literal["auto", "none", "median", "hyperband"] = "auto"
    startup: int = Field(8, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("ranges", mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        for key, given in value.items() if isinstance(value, Mapping) else ():
            section, _, rest = str(key).partition(".")
            if section not in TUNED or not rest:
                raise CallError(
                    f"'tune.ranges' names '{key}', which does not decide the trained model; name settings of "
                    f"{', '.join(TUNED)}, such as train.lr"
                )
            if isinstance(given, list | tuple):
                if len(given) < 2:
                    raise CallError(f"'tune.ranges' gives '{key}' less than two values; give it several")
            elif not isinstance(given, Mapping | RangeConfig):
                raise CallError(
                    f"'tune.ranges' gives '{key}' a single value; write a list of values, or "
                    "{low: …, high: …}"
                )
        return value

    @field_validator("objectives")
    @classmethod
    def _apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must be different ones")
        return value


_SPAN = re.compile(r"^(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<more>(:[^:]+)*)$")


def parse_range(text: str) -> tuple[str, dict[str, Any]]:
    """`"train.lr=1e-4..1e-2:log"` → `("train.lr", {"low": 1e-4, "high": 1e-2, "log": True})`; `:step=8` too.

    Raises CallError for anything else.
    """
    key, _, span = text.partition("=")
    found = _SPAN.match(span.strip())
    if not key.strip() or not found:
        raise CallError(f"'{text}' is no range; write one such as train.lr=1e-4..1e-2:log")
    out: dict[str, Any] = {end: parse_yaml(found[end], f"the range of '{key}'") for end in ("low", "high")}
    for word in filter(None, found["more"].split(":")):
        name, equals, value = word.partition("=")
        if word == "log":
            out["log"] = True
        elif name == "step" and equals:
            out["step"] = parse_yaml(value, f"the range of '{key}'")
        else:
            raise CallError(f"'{text}' ends in ':{word}'; a range may end in :log or :step=8")
    return key.strip(), out


def parse_choice(text: str) -> tuple[str, list[Any]]:
    """`"model.width=32,48,64"` → `("model.width", [32, 48, 64])`; values are read as YAML, lists among them:
    `train.betas=[0,0.99],[0.5,0.999]`. Raises CallError for anything else."""
    key, equals, values = text.partition("=")
    if not key.strip() or not equals or not values.strip():
        raise CallError(f"'{text}' is no choice; write one such as model.width=32,48,64")
    found = parse_yaml(f"[{values}]", f"the choice of '{key.strip()}'")
    return key.strip(), list(found)
