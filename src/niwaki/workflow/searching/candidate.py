"""A candidate: what was chosen, how far it was trained, what it costs and loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from niwaki.compression.search.choices import Choices
from niwaki.core.store import hash_json
from niwaki.workflow.searching.rehearsal import Loss

__all__ = ["NEAR", "Candidate", "excess"]

NEAR = 2.0
"""Margins that a candidate may seem to have lost, to be judged once more with more samples."""


@dataclass
class Candidate:
    """
    choices:   the plan, but for how long it is trained
    expected:  margins that it should lose before any training; infinite where nothing tells
    predicted: costs by key (`latency`, `latency@16`, `size`, `memory`, `evaluations`)
    measured:  the same of its exported bundle; empty where it was not exported
    trained:   steps of each fine-tuning, one after another
    losses:    by axis, on validation samples; empty where it was not tried
    bundled:   whether they were measured on the bundle, with fresh seeds
    reason:    why it was given up, or could not be tried
    history:   (steps of training in all, worse loss) of each time it was judged
    seconds:   that it took in all
    each:      seconds of a step of its training; 0 where it was not trained
    judging:   seconds of measuring its losses; drawn: samples that they were measured on
    at:        seconds of the search that were spent when it was judged last
    snapshot:  whether it is a state of its plan that was set aside, while another one is trained on
    """

    choices: Choices
    predicted: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    trained: tuple[int, ...] = ()
    losses: dict[str, Loss] = field(default_factory=dict)
    bundled: bool = False
    reason: str = ""
    history: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    each: float = 0.0
    judging: float = 0.0
    drawn: int = 0
    at: float = 0.0
    snapshot: bool = False
    expected: float = math.inf

    @property
    def name(self) -> str:
        return hash_json([*map(str, self.choices.key), *["snapshot"] * self.snapshot])[:12]

    @property
    def costs(self) -> dict[str, float]:
        """As far as they are known: measured where they were."""
        return {**self.predicted, **self.measured}

    @property
    def worst(self) -> float:
        """Loss on the axis that lost more, in margins; infinite where nothing is known."""
        return max((loss.value for loss in self.losses.values()), default=math.inf)

    @property
    def sure(self) -> float:
        """The upper end of the worse axis: below 1, nothing was lost."""
        return max((loss.interval[1] for loss in self.losses.values()), default=math.inf)

    @property
    def lossless(self) -> bool:
        return bool(self.losses) and all(loss.outcome == "no loss" for loss in self.losses.values())

    def fits(self, limits: Mapping[str, float], room: float = 0.0) -> bool:
        """Whether no limit is exceeded; predicted costs may not come nearer than `room`."""
        return excess(self, limits, room) <= 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "name": self.name,
            "choices": self.choices.to_json(),
            "losses": {axis: vars(loss) for axis, loss in self.losses.items()},
            "expected": self.expected if math.isfinite(self.expected) else None,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Candidate:
        values = {k: v for k, v in record.items() if k != "name"}
        values["expected"] = math.inf if record.get("expected") is None else float(record["expected"])
        losses = {axis: Loss.from_json(loss) for axis, loss in record["losses"].items()}
        trained = tuple(map(int, record["trained"]))
        return cls(**{**values, "choices": Choices.from_json(record["choices"]), "losses": losses,
                      "trained": trained,
                      "history": tuple((int(n), float(x)) for n, x in record["history"])})  # fmt: skip


def excess(candidate: Candidate, limits: Mapping[str, float], room: float = 0.0) -> float:
    """How far it is from its limits, as the logarithm of the largest share; at most 0 where it keeps all."""
    shares = [0.0 if not limits else -math.inf]
    for key, limit in limits.items():
        if key in candidate.measured:
            shares.append(math.log(max(candidate.measured[key], 1e-12) / limit))
        elif key in candidate.predicted:
            shares.append(math.log(max(candidate.predicted[key], 1e-12) * (1.0 + room) / limit))
    return max(shares)
