"""Curriculum: easy samples first, more of them as the training goes on, all of them in the end (Bengio et al.
2009).

At share t of the training the easiest s(t)·n samples are drawn from; s rises from `start` at t = 0 to 1 at
t = `until`. Which samples a batch holds follows from (seed, k) alone, so a resumed training sees the same.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import Trainable
from niwaki.data import Feeder, Split
from niwaki.training.difficulties import difficulty_of

__all__ = ["CurriculumConfig", "CurriculumFeeder", "samples_in"]

STREAM = 2**14
"""Number of the random stream that draws are made from; the feeder's own are counted from 0."""


class CurriculumConfig(BaseConfig):
    """In which order samples come in.

    by:    what makes a sample hard: `length`, `detail`, `novelty`, `column:NAME` (its values, low is easy),
           or a function of one's own, `module:function`, called with the split, `(n,)` numbers
    start: share of the samples, the easiest, that the training begins with
    until: share of the training after which all are drawn from
    pace:  how the share rises: `linear`, or `root`, whose square is linear, so that each new sample has as
           long alone (Platanios et al. 2019, Equation 7)
    """

    by: str
    start: float = Field(0.2, gt=0, le=1)
    until: float = Field(0.5, gt=0, le=1)
    pace: Literal["linear", "root"] = "root"

    def share(self, t: float) -> float:
        """Of the samples that are drawn from at share t of the training."""
        u = min(t / self.until, 1.0)
        if self.pace == "linear":
            return self.start + (1.0 - self.start) * u
        return math.sqrt(self.start**2 + (1.0 - self.start**2) * u)


class CurriculumFeeder(Feeder):
    """A feeder whose first batches are drawn, with replacement, from the easier samples; from `until` on it
    is the feeder that it would be without.

    samples: positions of the stream in the whole training
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        config: CurriculumConfig,
        samples: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        offset: int = 0,
    ) -> None:
        super().__init__(split, batch_size, seed=seed, rank=rank, world=world, offset=offset)
        self.config, self.samples = config, samples
        hard = difficulty_of(split, config.by)
        self.order = torch.from_numpy(np.argsort(hard, kind="stable")).to(split.x.device)

    def eligible(self, k: int) -> int:
        """How many samples, the easiest ones, the k-th batch is drawn from."""
        share = self.config.share(self._done(k))
        return min(len(self.order), max(1, math.ceil(share * len(self.order) - 1e-9)))

    def _done(self, k: int) -> float:
        """Share of the training before the k-th batch, which all processes begin together."""
        return (self._start(k) - self.rank * self.batch_size) / self.samples

    def index(self, k: int) -> Tensor:
        if self._done(k) >= self.config.until:
            return super().index(k)
        key = np.array([self.seed % 2**64, STREAM << 48 | k], dtype=np.uint64)
        words = np.random.Philox(key=key).random_raw(self.batch_size * self.world)
        mine = words[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
        # 53 bits of each word as a number below 1, as numpy's own uniform numbers are made
        drawn = np.floor((mine >> np.uint64(11)) * 2.0**-53 * self.eligible(k)).astype(np.int64)
        return self.order[torch.from_numpy(drawn).to(self.order.device)]


def samples_in(model: Trainable, stages: list[tuple[str, int, int]]) -> int:
    """Samples that a training draws: the batches of every stage, given as (name, steps, batch), by the phases
    that ask for a fresh one."""
    total = 0
    for name, steps, batch in stages:
        phases = [p for p in model.phases() if p.in_stage(name)]
        for i, phase in enumerate(phases):
            times = -(-steps // phase.every)
            # the first phase of a step draws whatever it says; its repeats reuse that batch where it says so
            fresh = phase.repeats if phase.fresh_batch else int(i == 0)
            total += times * fresh * batch
    return max(total, 1)
