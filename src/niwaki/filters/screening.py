"""What a filter says of samples, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.filters.base import Filter
from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.specs import ValueSpec

__all__ = ["ACTIONS", "Screening", "check_action", "screen"]

ACTIONS = ("withhold", "mark")


@dataclass(frozen=True)
class Screening:
    """
    name, threshold: of the filter
    scores:   0 … 1 `(n,)`
    flagged:  which are above the threshold, bool `(n,)`
    action:   `withhold` leaves them out of what is given, `mark` gives them with their score
    """

    name: str
    threshold: float
    scores: np.ndarray
    flagged: np.ndarray
    action: str

    @property
    def passes(self) -> np.ndarray:
        """The samples that are given, bool `(n,)`."""
        return ~self.flagged if self.action == "withhold" else np.ones(len(self.flagged), bool)

    def of(self, i: int) -> dict[str, Any]:
        """What is said of one sample."""
        return {
            "name": self.name,
            "score": float(self.scores[i]),
            "threshold": self.threshold,
            "flagged": bool(self.flagged[i]),
        }

    def to_json(self, index: np.ndarray, seed: int) -> dict[str, Any]:
        """All of it; `index` says which samples of the seed they are `(n,)`. What is withheld is named."""
        named = [
            {"index": int(i), "seed": seed, "score": float(s)}
            for i, s, f in zip(index, self.scores, self.flagged, strict=True)
            if f
        ]
        return {
            "name": self.name,
            "threshold": self.threshold,
            "action": self.action,
            "samples": len(self.scores),
            "flagged": named,
            "withheld": len(named) if self.action == "withhold" else 0,
            "scores": self.scores.tolist(),
        }


def check_action(action: str) -> str:
    """Raises CallError for an unknown one."""
    if action not in ACTIONS:
        raise CallError(f"a filter can {' or '.join(ACTIONS)}, not '{action}'; {nearest(action, ACTIONS)}")
    return action


def screen(by: Filter, x: np.ndarray, spec: ValueSpec, action: str = "withhold") -> Screening:
    """Score samples `(n, *shape)`. One that is not finite scores 1 and is flagged at any threshold."""
    scores = np.asarray(by.score(x, spec), np.float64)
    # A network may clip NaN away before it looks.
    broken = ~np.isfinite(np.asarray(x, np.float64)).reshape(len(x), -1).all(1) | ~np.isfinite(scores)
    flagged = broken | (scores > by.threshold)
    return Screening(by.name, by.threshold, np.where(broken, 1.0, scores), flagged, check_action(action))
