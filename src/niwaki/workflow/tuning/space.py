"""What a study varies: the ranges of a recipe as Optuna's distributions, checked against the recipe first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import CallError
from niwaki.recipe import RangeConfig, Recipe, TuneConfig, load_recipe, value_at
from niwaki.recipe.plain import plain

__all__ = ["Space"]

_INSIDE = (0.25, 0.5, 0.75)
"""Shares of a range at which it is tried whether the recipe takes such a value."""


class Space:
    """The ranges of a study over a recipe.

    Values that are no plain scalars (the pair of `train.betas`) are known to Optuna by their JSON.
    """

    def __init__(self, recipe: Recipe, config: TuneConfig) -> None:
        self.recipe = recipe
        self.ranges = config.ranges

    def check(self) -> None:
        """Raises CallError in one sentence for a key that the recipe does not have, a value that it refuses,
        or nothing to vary."""
        if not self.ranges:
            raise CallError(
                "nothing is to be varied; write tune.ranges in the recipe, or --range "
                "train.lr=1e-4..1e-2:log and --choice model.width=32,48,64"
            )
        for key, given in self.ranges.items():
            for value in _probes(given):
                try:
                    self.applied({key: value})
                except CallError as error:
                    raise CallError(f"'{key}' cannot be {json.dumps(plain(value))}: {error}") from None

    def applied(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with the settings of a trial. Raises CallError where it refuses them together."""
        return load_recipe(self.recipe, {key: plain(value) for key, value in settings.items()})

    def distributions(self) -> dict[str, Any]:
        """By key, Optuna's."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        out: dict[str, Any] = {}
        for key, given in self.ranges.items():
            if not isinstance(given, RangeConfig):
                out[key] = CategoricalDistribution([_label(value) for value in given])
            elif given.whole:
                out[key] = IntDistribution(
                    int(given.low), int(given.high), log=given.log, step=int(given.step or 1)
                )
            else:
                out[key] = FloatDistribution(
                    float(given.low), float(given.high), log=given.log, step=given.step
                )
        return out

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial sets, from the parameters that Optuna has chosen."""
        out: dict[str, Any] = {}
        for key, value in parameters.items():
            given = self.ranges[key]
            known = {} if isinstance(given, RangeConfig) else {_label(v): v for v in given}
            out[key] = plain(known.get(value, value))
        return out

    def default(self) -> dict[str, Any] | None:
        """The recipe's own settings as parameters; None where one lies outside its range."""
        values, out = plain(self.recipe), {}
        for key, distribution in self.distributions().items():
            mine = _label(value_at(values, key))
            try:
                inside = distribution._contains(distribution.to_internal_repr(mine))
            except (ValueError, TypeError):
                inside = False
            if not inside:
                return None
            out[key] = mine
        return out


def _label(value: Any) -> Any:
    """A value as Optuna can keep it."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(plain(value))


def _probes(given: Any) -> list[Any]:
    """All values of a choice; ends and some of the inside of a range."""
    if not isinstance(given, RangeConfig):
        return list(given)
    low, high = given.low, given.high
    if given.step is not None:
        return [low, low + given.step]
    inside = [low + share * (high - low) for share in _INSIDE]
    return [low, high, *(round(value) if given.whole else value for value in inside)]
