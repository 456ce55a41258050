"""niwaki's side: a model trained by `niwaki.training.fit`."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from typing import Any

from peers.turns import Turn

from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki.training.changed import with_lengths

__all__ = ["Ours", "parameters_of"]

VALIDATIONS = 20


def parameters_of(*modules: Any) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


class _Enough(Exception):
    pass


class Ours:
    """As many steps as the seconds allow, estimated beforehand, so that the schedule ends with them.

    judge: the model, in eval mode with averaged weights → what the best validation is chosen by; None keeps
           the last weights
    """

    def __init__(
        self,
        model: Any,
        split: Split,
        config: TrainConfig,
        score: Callable[[Any], dict[str, float]],
        *,
        judge: Callable[[Any], float] | None = None,
        seed: int = 0,
        parameters: int = 0,
    ) -> None:
        self.model, self.split, self.seed, self.judge = model, split, seed, judge
        self.config, self._score = config, score
        self.parameters = parameters or parameters_of(model)

    def train(self, turn: Turn) -> None:
        with turn.untimed():
            steps = max(20, int(turn.seconds / self._seconds_per_step()))
        done, batch = 0, self.config.batch

        def look(step: int, total: int, last: dict[str, float]) -> None:
            nonlocal done
            if step > done:
                turn.tick((step - done) * batch)
                done = step

        def validate(model: Any, step: int) -> dict[str, float]:
            with turn.untimed():
                assert self.judge is not None
                return {"loss": self.judge(model)}

        chosen = {"keep_best": True, "validate_every": max(1, steps // VALIDATIONS)} if self.judge else {}
        fit(
            self.model,
            self.split,
            _length(self.config, steps).model_copy(update={**chosen, "checkpoint_every": 0}),
            seed=self.seed,
            progress=look,
            validate=validate if self.judge else None,
        )

    def _seconds_per_step(self) -> float:
        """Of a copy, in about two seconds."""
        marks: list[tuple[int, float]] = []

        def look(step: int, total: int, last: dict[str, float]) -> None:
            marks.append((step, time.thread_time()))
            if step > 8 and marks[-1][1] - marks[0][1] > 2.0:
                raise _Enough

        with contextlib.suppress(_Enough):
            fit(copy.deepcopy(self.model), self.split, _length(self.config, 10**6), seed=0, progress=look)
        first = marks[1] if len(marks) > 2 else marks[0]
        return (marks[-1][1] - first[1]) / (marks[-1][0] - first[0])

    def score(self) -> dict[str, float]:
        return self._score(self.model)


def _length(config: TrainConfig, steps: int) -> TrainConfig:
    """With so many steps in its first stage, and one in those that follow."""
    beside = {"checkpoint_every": 0, "watch": None, "validation_batches": 0}
    return with_lengths(config, lambda k, _: 1 if k else steps).model_copy(update=beside)
