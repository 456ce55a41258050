"""What a ladder of known damage says about an extractor: which metrics move as they must.

The rule. Every repeat draws other subsets and climbs the whole ladder with them. A curve is *noticed* if its
end lies beyond its start in every repeat, and on average by more than 3 times the noise: the standard
deviation of the undamaged step over the repeats. It is *monotone* if no later step lies behind an earlier one
by more than 2 standard deviations of their difference within a repeat and by more than 5 % of the span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["AXIS_OF", "DECIDES", "EXPECTED", "FALLS", "Curve", "Fitness", "Ladder", "judge_curve"]

BACK, SPAN, NOTICED = 2.0, 0.05, 3.0

AXIS_OF = {"corruption": "fidelity", "modes": "diversity", "copying": "memory"}
FALLS = frozenset(
    {
        "log_realism",
        "precision",
        "density",
        "clipped_density",
        "rarefied_coverage",
        "recall",
        "coverage",
        "clipped_coverage",
    }
)
"""Metrics that damage lowers; it raises the others."""
EXPECTED = {
    "corruption": ("log_realism", "frechet", "kernel", "precision", "density", "clipped_density"),
    "modes": ("rarefied_coverage", "frechet", "kernel", "recall", "coverage", "clipped_coverage"),
    "copying": ("close", "rarefied_coverage", "recall", "coverage", "clipped_coverage"),
}
"""Metrics that a kind of ladder must move. The others are drawn and not judged."""
DECIDES = {
    "corruption": ("log_realism", "frechet"),
    "modes": ("rarefied_coverage", "frechet"),
    "copying": ("close", "rarefied_coverage"),
}
"""Those of them that must pass for the extractor to be fit: the verdict's own statistics, the Fréchet
distance, and the share of close copies. Another one that fails has flaws of its own (precision lets large
balls grow, the cubic kernel is ruled by the longest vectors): it is named, and not to be trusted in this
extractor."""


@dataclass(frozen=True)
class Curve:
    """One metric along one ladder.

    values:   means over the repeats, by step
    noise:    standard deviation of the undamaged step over the repeats
    falls:    whether damage must lower it
    judged:   whether this ladder must move it; decides: whether the extractor's fitness hangs on it
    monotone, noticed: as the rule says (for all curves, judged or not)
    """

    values: tuple[float, ...]
    noise: float
    falls: bool
    judged: bool
    decides: bool
    monotone: bool
    noticed: bool

    @property
    def passed(self) -> bool:
        """Moves as it must, or need not move."""
        return not self.judged or (self.monotone and self.noticed)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "values": list(self.values), "passed": self.passed}


@dataclass(frozen=True)
class Ladder:
    """One kind of damage in rising strength, the first step without any.

    name:      `blur`, `noise`, `contrast`, `modes`, `copies`
    kind:      `corruption`, `modes`, `copying`
    unit:      what the strengths are
    curves:    by metric
    """

    name: str
    kind: str
    unit: str
    strengths: tuple[float, ...]
    curves: Mapping[str, Curve]

    @property
    def failed(self) -> tuple[str, ...]:
        """Metrics that this ladder should have moved."""
        return tuple(m for m, c in self.curves.items() if not c.passed)

    @property
    def passed(self) -> bool:
        """All that decide passed."""
        return not any(self.curves[m].decides for m in self.failed)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "axis": AXIS_OF[self.kind],
            "unit": self.unit,
            "strengths": list(self.strengths),
            "passed": self.passed,
            "failed": list(self.failed),
            "metrics": {m: c.to_json() for m, c in self.curves.items()},
        }


@dataclass(frozen=True)
class Fitness:
    """Whether an extractor may be trusted on a data set.

    fit:        every ladder passed
    distrusted: metrics that failed on a ladder which should move them, with the ladders' names
    n:          samples (real, judged); repeats: draws of them
    text:       in a sentence or two
    """

    extractor: str
    fingerprint: str
    split: str
    ladders: tuple[Ladder, ...]
    fit: bool
    distrusted: Mapping[str, tuple[str, ...]]
    n: tuple[int, int]
    repeats: int
    seed: int
    text: str
    signature: str

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "ladders": [ladder.to_json() for ladder in self.ladders],
            "distrusted": {m: list(where) for m, where in self.distrusted.items()},
            "n": list(self.n),
        }

    @classmethod
    def of(cls, name: str, ladders: Sequence[Ladder], broken: str = "", **known: Any) -> Fitness:
        """The judgement of ladders. broken: why there are none."""
        distrusted: dict[str, tuple[str, ...]] = {}
        for ladder in ladders:
            for metric in ladder.failed:
                distrusted[metric] = (*distrusted.get(metric, ()), ladder.name)
        fit = not broken and all(ladder.passed for ladder in ladders)
        text = f"'{name}' is unfit: {broken}." if broken else _sentence(name, ladders, distrusted, fit)
        return cls(extractor=name, ladders=tuple(ladders), fit=fit, distrusted=distrusted, text=text, **known)


def judge_curve(values: Any, metric: str, kind: str) -> Curve:
    """values: `(repeats, steps)`, at least two of each."""
    array = np.asarray(values, dtype=np.float64)
    mean = array.mean(0)
    rising = -array if metric in FALLS else array
    ahead = rising[:, None, :] - rising[:, :, None]  # (repeats, earlier, later)
    error = ahead.std(0, ddof=1)
    noise, total = float(array[:, 0].std(ddof=1)), ahead[:, 0, -1]
    behind = np.triu(-ahead.mean(0) - np.maximum(BACK * error, SPAN * np.ptp(mean)))
    return Curve(
        values=tuple(mean.tolist()),
        noise=noise,
        falls=metric in FALLS,
        judged=metric in EXPECTED[kind],
        decides=metric in DECIDES[kind],
        monotone=bool((behind <= 0).all()),
        noticed=bool((total > 0).all() and total.mean() > NOTICED * noise),
    )


def _sentence(
    name: str, ladders: Sequence[Ladder], distrusted: Mapping[str, tuple[str, ...]], fit: bool
) -> str:
    failed = [ladder for ladder in ladders if not ladder.passed]
    if fit:
        noticed = ", ".join(ladder.name for ladder in ladders)
        text = f"'{name}' is fit: it notices {noticed}, step by step."
    else:
        parts = []
        for ladder in failed:
            why = [_failure(m, ladder.curves[m]) for m in ladder.failed if ladder.curves[m].decides]
            parts.append(f"{ladder.name} ({', '.join(why)})")
        text = f"'{name}' is unfit: it fails on {', '.join(parts)}."
    decided = {
        m for ladder in ladders if not ladder.passed for m in ladder.failed if ladder.curves[m].decides
    }
    rest = {m: where for m, where in distrusted.items() if m not in decided}
    if rest:
        listed = "; ".join(f"{m.replace('_', ' ')} ({', '.join(where)})" for m, where in rest.items())
        text += f" Not to be trusted in it: {listed}."
    return text


def _failure(metric: str, curve: Curve) -> str:
    words = metric.replace("_", " ")
    return f"{words} does not notice it" if not curve.noticed else f"{words} turns back"
