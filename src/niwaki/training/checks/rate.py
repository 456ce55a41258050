"""Find the learning rate (Smith 2017, "Cyclical learning rates", range test): it grows in every step from far
too small to far too large, and the loss says where it is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.training.checks.base import CHECKS, Check, Looked, Subject
from niwaki.training.checks.few_steps import measured_phases, train_few
from niwaki.training.config import TrainConfig

__all__ = ["Rate", "find_rate"]

_STEPS = 100
_LOW, _HIGH = 1e-3, 1e2
"""Of the recipe's own rate."""
_SMOOTH = 0.9
_WIDE = 10
_LOST = 0.5
"""Of the fall so far: how much the loss may rise before the rate is too large."""


def find_rate(factors: np.ndarray, losses: np.ndarray) -> tuple[float, float | None] | None:
    """The factor at which the smoothed loss falls fastest, and the one beyond which it rises again, None
    where it never does; None where it does not fall.

    factors: of the rate, rising by a constant ratio `(n,)`; losses: at each `(n,)`, or fewer where the last
             ones were not finite
    """
    finite = np.isfinite(losses)
    losses = losses[: len(losses) if finite.all() else int(np.argmin(finite))]
    if len(losses) < 10:
        return None
    smooth, average = np.empty(len(losses)), 0.0
    for i, loss in enumerate(losses):  # an exponential average without its bias (Kingma & Ba 2015)
        average = _SMOOTH * average + (1.0 - _SMOOTH) * float(loss)
        smooth[i] = average / (1.0 - _SMOOTH ** (i + 1))
    start = float(smooth[: max(3, len(smooth) // 10)].mean())
    lowest, end = int(np.argmin(smooth)), None if finite.all() else len(smooth)
    for i in range(lowest, len(smooth)):
        if smooth[i] > smooth[lowest] + _LOST * (start - smooth[lowest]):
            end = i
            break
    noise = float(np.diff(losses[: len(losses) // 4 + 2]).std()) * (1.0 - _SMOOTH) ** 0.5
    if start - smooth[lowest] <= max(noise, 1e-12 * abs(start)):
        return None
    # Over ten steps, and not among the first ten, whose average is of few losses.
    falls = smooth[_WIDE : lowest + 1] - smooth[: max(lowest + 1 - _WIDE, 0)]
    steepest = int(np.argmin(falls[_WIDE:])) + _WIDE + _WIDE // 2 if len(falls) > _WIDE else lowest
    # The average lags behind by 1/(1 − 0.9) steps; the loss fell that much earlier.
    lag = round(_SMOOTH / (1.0 - _SMOOTH))
    edge = None if end is None else float(factors[max(end - 1 - lag, 0)])
    return float(factors[max(steepest - lag, 0)]), edge


def _times(config: TrainConfig, factor: float) -> dict[str, Any]:
    """All rates of a training, times a factor."""
    rate = (
        {n: r * factor for n, r in config.lr.items()} if isinstance(config.lr, dict) else config.lr * factor
    )
    own = {
        name: {**entry, **({"lr": entry["lr"] * factor} if "lr" in entry else {})}
        for name, entry in config.optimizers.items()
    }
    return {"lr": rate, "optimizers": own}


@CHECKS.register("rate")
class Rate(Check):
    """All rates of the recipe are multiplied by the same factor, so that those of several networks keep their
    proportions; the answer is in multiples of the recipe's."""

    title = "learning rate"

    def look(self, subject: Subject) -> Looked:
        if not measured_phases(subject):
            text = "the learning rate is not looked for: no loss of this model measures it alone"
            return Looked.one("note", "learning rate", text)
        settings = subject.config.of_stage(subject.config.all_stages[0])
        factors = _LOW * (_HIGH / _LOW) ** (np.arange(_STEPS) / _STEPS)
        rising: dict[str, Any] = {"schedule": {"name": "range", "start": _LOW / _HIGH}, "warmup": 0}
        losses = np.array(train_few(subject, _STEPS, **rising, **_times(settings, _HIGH)))
        found = find_rate(factors[: len(losses)], losses)
        figures = {"factors": factors[: len(losses)].tolist(), "losses": losses.tolist()}
        if found is None:
            text = (
                f"no rate between {_LOW:g} and {_HIGH:g} times the recipe's lowers the loss in {_STEPS} steps"
            )
            return Looked.one("warning", "learning rate", text, **figures)
        best, edge = found
        figures |= {"best": best, "edge": edge}
        said = f"the loss falls fastest at {best:.2g} times the recipe's learning rate"
        if edge is not None:
            said += f", and rises again beyond {edge:.2g} times"
        if edge is not None and edge < 1.0:
            return Looked.one("warning", "learning rate", f"{said}: the recipe's is too large", **figures)
        if best > 15.0:
            return Looked.one("warning", "learning rate", f"{said}: the recipe's is very small", **figures)
        return Looked.one("note", "learning rate", said, **figures)
