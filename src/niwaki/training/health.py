"""How gradients fare in every layer over a training: the running norms, and for how long one has failed.

A layer is a module with parameters of its own. What a step changes is told in proportion to the weights
(about 10⁻³ is usual), because that holds for any optimizer and learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from niwaki.training.gradients import Norms

__all__ = ["Health", "Layer", "layer_of"]

DEAD, FEW = 5, 3
"""Measurements in a row for which a gradient must be zero or tiny; and huge, or followed too fast."""
TINY = 1e-6
"""Root mean square of a layer's gradient ÷ the largest among the layers of the same phase."""
HUGE = 100.0
"""Norm of a layer's gradient ÷ the running mean of its earlier ones."""
FAST = 0.1
"""Norm of what a step changes ÷ norm of the weights."""
_RATE = 0.05


@dataclass
class Layer:
    """What is known of a layer.

    count:    measurements; gradient, update: running geometric means of the gradient's norm, and of what a
              step changes ÷ the weights, over those that are not zero
    last:     the last of both
    zero, tiny, huge, fast: measurements in a row, up to the last, that were so
    """

    count: int = 0
    gradient: float = 0.0
    update: float = 0.0
    last: tuple[float, float] = (0.0, 0.0)
    zero: int = 0
    tiny: int = 0
    huge: int = 0
    fast: int = 0

    def add(self, gradient: float, share: float, update: float) -> None:
        """Take in a measurement. share: of the largest root mean square of a gradient; nothing but `huge` is
        learnt from a gradient that is not finite."""
        high = self.count >= FEW and self.gradient > 0 and gradient > HUGE * self.gradient
        self.huge = self.huge + 1 if high or not math.isfinite(gradient) else 0
        if not (math.isfinite(gradient) and math.isfinite(update)):
            return
        self.count += 1
        self.last = (gradient, update)
        rate = max(_RATE, 1.0 / self.count)
        # What explodes must not become the measure by which it is judged.
        self.gradient = _mean(self.gradient, min(gradient, HUGE * self.gradient) if high else gradient, rate)
        self.update = _mean(self.update, update, rate)
        self.zero = self.zero + 1 if gradient == 0.0 else 0
        self.tiny = self.tiny + 1 if 0.0 < share < TINY else 0
        self.fast = self.fast + 1 if update > FAST else 0


@dataclass
class Health:
    """Layers by stage and name."""

    stages: dict[str, dict[str, Layer]] = field(default_factory=dict)

    def add(self, stage: str, norms: Sequence[Norms]) -> dict[str, Any]:
        """Take in what all phases did in one step. Returns what is seen now, for a look: the layers that fail
        (where some are dead, `of` how many), and `updates`, the smallest, median and largest of what the step
        changed of a layer ÷ its weights.

        A layer that several phases train is as well off as in the best of them.
        """
        layers = self.stages.setdefault(stage, {})
        found: dict[str, _Found] = {}
        for of in norms:
            here = _by_layer(of)
            most = max(here.values(), key=lambda layer: layer.rms).rms if here else 0.0
            for name, layer in here.items():
                layer.share = _ratio(layer.rms, most)
                found[name] = found[name].best(layer) if name in found else layer
        for name, now in found.items():
            layers.setdefault(name, Layer()).add(now.gradient, now.share, now.update)
        of_now = [(name, layers[name], now) for name, now in found.items()]
        look: dict[str, Any] = {
            "dead": [name for name, layer, _ in of_now if layer.zero >= DEAD],
            "vanishing": [[name, now.share] for name, layer, now in of_now if layer.tiny >= DEAD],
            "exploding": [
                [name, _ratio(now.gradient, layer.gradient)]
                for name, layer, now in of_now
                if layer.huge >= FEW
            ],
            "fast": [[name, now.update] for name, layer, now in of_now if layer.fast >= FEW],
        }
        moving = sorted(now.update for now in found.values() if now.update > 0)
        updates = {"updates": [moving[0], moving[len(moving) // 2], moving[-1]]} if moving else {}
        look = {name: value for name, value in look.items() if value}
        return look | updates | ({"of": len(found)} if "dead" in look else {})

    def table(self) -> list[dict[str, Any]]:
        """One row per stage and layer."""
        return [
            {"stage": stage, "layer": name, **asdict(layer), "last": list(layer.last)}
            for stage, layers in self.stages.items()
            for name, layer in layers.items()
        ]

    @classmethod
    def from_table(cls, rows: Iterable[dict[str, Any]]) -> Health:
        found = cls()
        for row in rows:
            values = {k: v for k, v in row.items() if k not in ("stage", "layer")}
            layer = Layer(**{**values, "last": tuple(values["last"])})
            found.stages.setdefault(row["stage"], {})[row["layer"]] = layer
        return found


def layer_of(parameter: str) -> str:
    """Name of the module that a parameter belongs to, parametrizations taken for the weight they make."""
    module, parametrized, _ = parameter.partition(".parametrizations.")
    return module if parametrized else parameter.rpartition(".")[0] or parameter


@dataclass
class _Found:
    """Of a layer in one step: norm and root mean square of its gradient, update ÷ weights, and the root mean
    square ÷ the largest of the phase."""

    gradient: float
    rms: float
    update: float
    share: float = 0.0

    def best(self, other: _Found) -> _Found:
        return _Found(*(max(pair) for pair in zip(astuple(self), astuple(other), strict=True)))


def _by_layer(of: Norms) -> dict[str, _Found]:
    sums: dict[str, list[float]] = {}
    for name, count, *norms in zip(of.names, of.counts, *of.values, strict=True):
        total = sums.setdefault(layer_of(name), [0.0, 0.0, 0.0, 0.0])
        for at, value in enumerate((math.sqrt(count), *norms)):
            total[at] += value * value
    return {
        name: _Found(math.sqrt(g), math.sqrt(g / n), _ratio(math.sqrt(moved), math.sqrt(weight)))
        for name, (n, g, weight, moved) in sums.items()
        if n
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0  # weights that are all zero still have to find their size


def _mean(before: float, value: float, rate: float) -> float:
    if value <= 0.0 or before <= 0.0:
        return max(before, value)
    return math.exp((1.0 - rate) * math.log(before) + rate * math.log(value))
