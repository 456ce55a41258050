"""Where a trial stands: the difference of the outcomes, the guardrails, and what follows of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from niwaki.sequential.difference import Comparison, compare_arms
from niwaki.serving.trial.plan import Arm, TrialPlan

__all__ = ["GUARDS", "Standing", "Tally"]

GUARDS = {
    "errors": "requests that failed",
    "slow": "requests that took too long",
    "withheld": "answers that a filter withheld",
}
"""Of each user's first request 0 or 1, less is better."""


@dataclass
class Tally:
    """Users in the order in which something became known of them. Each counts once, by the first outcome and
    by the first request: users are what was drawn, so that further ones of the same user are no further
    draws."""

    outcome: dict[str, tuple[Arm, float]] = field(default_factory=dict)
    request: dict[str, tuple[Arm, dict[str, float]]] = field(default_factory=dict)

    def add_outcome(self, user: str, arm: Arm, value: float) -> bool:
        """Whether it counts."""
        if user in self.outcome:
            return False
        self.outcome[user] = arm, value
        return True

    def add_request(self, user: str, arm: Arm, figures: dict[str, float]) -> bool:
        if user in self.request:
            return False
        self.request[user] = arm, figures
        return True


@dataclass(frozen=True)
class Standing:
    """
    outcome: B beside A, more is better
    guards:  by name, of what less is better: the difference says by how much B is *better*
    stop:    why B must no longer be given; empty where it may
    """

    outcome: Comparison
    guards: dict[str, Comparison]
    stop: str

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": asdict(self.outcome),
            "guards": {name: asdict(one) for name, one in self.guards.items()},
            "stop": self.stop,
        }

    @classmethod
    def of(cls, plan: TrialPlan, tally: Tally) -> Standing:
        """The guardrails share the level: it is the chance that any of them ever stops B without cause."""
        outcome = _compare(plan, list(tally.outcome.values()), plan.level)
        guards = {
            name: _compare(
                plan,
                [(arm, 1.0 - figures.get(name, 0.0)) for arm, figures in tally.request.values()],
                plan.level / len(GUARDS),
            )
            for name in GUARDS
        }
        stop = ""
        if outcome.high < -plan.margin:
            stop = f"its outcomes are certainly worse, by {-outcome.high:.3f} at least"
        for name, one in guards.items():
            if not stop and one.high < -plan.margin:
                stop = f"certainly more {GUARDS[name]}, by {-one.high:.1%} at least"
        return cls(outcome, guards, stop)


def _compare(plan: TrialPlan, rows: list[tuple[Arm, float]], level: float) -> Comparison:
    values = np.array([value for _, value in rows], np.float64)
    given_b = np.array([arm == "b" for arm, _ in rows], bool)
    return compare_arms(values, given_b, share=plan.share, level=level, margin=plan.margin)
