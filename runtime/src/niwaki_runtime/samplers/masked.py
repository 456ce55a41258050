"""Tokens out of masks: a network that sees the whole sequence says every place, and each is set once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.asking import Asks, led
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.tokens import Chooses, log_probability

__all__ = ["Masked", "halton_order"]

UNKNOWN = -1
"""What stands in a prompt where a token is to be made."""
_HAIR = 1e-9  # of a product that is a whole number but for rounding


@register
@dataclass(frozen=True)
class Masked(Asks, Chooses, Sampler):
    """logits = graph(tokens, *conditions), once per step; then the places whose turn it is get their tokens.

    All begin as `mask`, and a token that was set stays. Which places are set in which step follows from the
    share that is masked after each step, m₀ = 1 … m_steps = 0. By `independent` a place is set in step k with
    probability (mₖ₋₁ − mₖ)/mₖ₋₁ if it was not before, which is the reverse process of absorbing diffusion
    (Sahoo et al. 2024, "MDLM"): each place draws its own time beforehand. The other orders set
    the same number in every sample: ⌊m·places⌋ stay masked. With as many steps as places, `linear` and
    `random` set one a step: any-order autoregression.

    length:     tokens of a sample
    mask:       the number that stands where no token is yet
    steps:      calls of the network at most; a step whose turn no place has needs none
    graph:      name of the graph: tokens `(n, length)`, the conditions → logits `(n, length, V)`
    conditions: names of the conditions, in the order of the graph's inputs
    schedule:   what stays masked after the share r of the steps: `linear` 1 − r, `cosine` cos(πr/2) (Chang et
                al. 2022, "MaskGIT")
    order:      `independent`; `random` places; `halton`, spread over the `grid` from a place drawn for each
                sample (Besnier et al. 2025); `confidence`, the likeliest of tokens drawn for all places
    spread:     of `confidence`: Gumbel noise on log p, which shrinks to none with the masked share
    grid:       (height, width) of the places, of `halton`
    temperature, top_k, top_p, min_p: of the choice of a token (`tokens.Choice`)
    prompt:     name of the condition that gives tokens at any places: `(n, length)`, −1 where one is to be
                made
    guidance, null, encoders: of the logits (`asking.Asks`)
    """

    kind: ClassVar[str] = "masked"
    later: ClassVar[tuple[str, ...]] = ("guidance", "null", "encoders")
    length: int = 1
    mask: int = 0
    steps: int = 16
    graph: str = "predictor"
    conditions: tuple[str, ...] = ()
    schedule: Literal["linear", "cosine"] = "linear"
    order: Literal["independent", "random", "halton", "confidence"] = "random"
    spread: float = 4.5
    grid: tuple[int, int] = (1, 1)
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    prompt: str = ""
    guidance: float = 1.0
    null: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.choice  # refuses settings that choose no token
        self.check_guidance()
        if self.length < 1 or self.steps < 1:
            raise CallError(f"length and steps must be at least 1, not {self.length} and {self.steps}")
        if self.order not in ("independent", "random", "halton", "confidence"):
            raise CallError(
                f"places are set in the order independent, random, halton or confidence, not '{self.order}'"
            )
        if self.schedule not in ("linear", "cosine"):
            raise CallError(f"the schedule of masks is linear or cosine, not '{self.schedule}'")
        if self.order == "halton" and math.prod(self.grid) != self.length:
            raise CallError(f"a grid of {self.grid} has not the {self.length} places of the order 'halton'")
        if not 0.0 <= self.spread < math.inf:
            raise CallError(f"the spread of confidences must not be negative, nor without end: {self.spread}")

    def shares(self) -> np.ndarray:
        """Share of the places that is masked after 0 … steps steps: `(steps + 1,)`, from 1 down to 0."""
        r = np.arange(self.steps + 1) / self.steps
        left = 1.0 - r if self.schedule == "linear" else np.cos(0.5 * np.pi * r)
        left[-1] = 0.0
        return left

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        graph, backend = graphs[self.graph], noise.backend
        asked = self.both(graphs, conditions, backend)
        tokens = self._given(conditions, backend, noise.n)
        open_ = tokens == UNKNOWN
        tokens[open_] = self.mask
        left = self._left(open_.sum(1))
        more = left[:, 1:] < left[:, :-1]  # whether a sample has places to set in each step
        turn = None if self.order == "confidence" else self._turns(noise, open_, left)
        for step in range(self.steps):
            due = open_ & (turn == step if turn is not None else more[:, step, None])
            if due.any():
                logits = self._said(graph, tokens, asked, backend)
                # A place that is set once needs one number, whatever the step.
                u = noise.uniform(self.length, draw=0 if turn is not None else step)
                made = np.zeros_like(tokens)
                made[due] = self.choice(logits[due], u[due][:, None])
                if turn is None:
                    due = self._surest(noise, logits, made, open_, left, step)
                tokens = np.where(due, made, tokens)
                open_ = open_ & ~due
            if progress:
                progress(step + 1, self.steps)
        return backend.asarray(tokens)

    def _said(self, graph: Runner, tokens: np.ndarray, asked: list[Array], backend: Backend) -> np.ndarray:
        """Logits `(n, length, V)` of all places, led where the sampler has guidance."""
        rows = tokens.copy() if self.guidance == 1.0 else np.concatenate([tokens, tokens])
        logits = backend.numpy(outputs(graph(backend.asarray(rows), *asked))[0])
        return logits if self.guidance == 1.0 else led(logits, self.guidance)

    def _given(self, conditions: Mapping[str, Array], backend: Backend, n: int) -> np.ndarray:
        """What is known beforehand `(n, length)` int64, −1 elsewhere."""
        if not self.prompt:
            return np.full((n, self.length), UNKNOWN, dtype=np.int64)
        return np.array(backend.numpy(conditions[self.prompt]), dtype=np.int64).reshape(n, self.length)

    def _left(self, places: np.ndarray) -> np.ndarray:
        """How many of each sample's `places` `(n,)` stay masked after 0 … steps steps `(n, steps + 1)`."""
        return np.floor(places[:, None] * self.shares() + _HAIR).astype(np.int64)

    def _turns(self, noise: Noise, open_: np.ndarray, left: np.ndarray) -> np.ndarray:
        """The step in which each place is set `(n, length)`, decided before the first."""
        u = noise.uniform(self.length, stream="step")
        if self.order == "independent":
            # Set once the masked share has fallen below u, which in step k has the chance mₖ₋₁ − mₖ.
            return (u[:, :, None] <= self.shares()[1:]).sum(2)
        if self.order == "halton":
            first = np.floor(u[:, :1] * self.length)
            u = (halton_order(*self.grid) - first) % self.length
        rank = np.where(open_, u, np.inf).argsort(1, kind="stable").argsort(1, kind="stable")
        done = left[:, :1] - left[:, 1:]  # (n, steps)
        return (rank[:, :, None] >= done[:, None, :]).sum(2)

    def _surest(
        self,
        noise: Noise,
        logits: np.ndarray,
        made: np.ndarray,
        open_: np.ndarray,
        left: np.ndarray,
        step: int,
    ) -> np.ndarray:
        """Of the open places those with the likeliest tokens, as many as this step sets `(n, length)`."""
        sure = np.full(made.shape, -np.inf)
        sure[open_] = log_probability(logits[open_], made[open_])
        gumbel = -np.log(-np.log(noise.uniform(self.length, stream="step", draw=step)))
        sure = sure + self.spread * self.shares()[step + 1] * gumbel
        rank = (-sure).argsort(1, kind="stable").argsort(1, kind="stable")
        return open_ & (rank < (open_.sum(1) - left[:, step + 1])[:, None])

    def graphs_used(self) -> tuple[str, ...]:
        return (*dict.fromkeys((*self.encoders.values(), self.graph)),)

    def conditions_used(self) -> tuple[str, ...]:
        return (*self.conditions, self.prompt) if self.prompt else self.conditions

    def evaluations(self) -> int:
        return self.steps


def halton_order(height: int, width: int) -> np.ndarray:
    """When each place of a grid, row by row, is first met by the points (φ₂(i), φ₃(i)), i = 1, 2 …:
    `(height · width,)`, a permutation. Places that follow each other lie far apart."""
    when: dict[int, int] = {}
    i = 0
    while len(when) < height * width:
        i += 1
        place = int(_radical_inverse(i, 2) * height) * width + int(_radical_inverse(i, 3) * width)
        when.setdefault(place, len(when))
    return np.array([when[place] for place in range(height * width)])


def _radical_inverse(i: int, base: int) -> float:
    """φ_base(i): the digits of i behind the point, in reverse."""
    value, unit = 0.0, 1.0 / base
    while i:
        i, digit = divmod(i, base)
        value, unit = value + digit * unit, unit / base
    return value
