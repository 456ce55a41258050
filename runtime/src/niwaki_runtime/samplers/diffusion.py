"""Sampling from a denoiser: prediction type, guidance and timesteps around a solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.schedules import alpha_bars, timesteps
from niwaki_runtime.samplers.solvers import SOLVERS

__all__ = ["PREDICTIONS", "Diffusion", "to_x0_eps"]


def _from_v(x: Array, out: Array, a: float, s: float) -> tuple[Array, Array]:
    """v = α ε − σ x₀ (Salimans & Ho 2022)."""
    return a * x - s * out, s * x + a * out


def _from_epsilon(x: Array, out: Array, a: float, s: float) -> tuple[Array, Array]:
    return (x - s * out) / a, out


def _from_x0(x: Array, out: Array, a: float, s: float) -> tuple[Array, Array]:
    return out, (x - a * out) / s


PREDICTIONS = {"v": _from_v, "epsilon": _from_epsilon, "x0": _from_x0}


def to_x0_eps(prediction: str, x: Array, out: Array, a: float, s: float) -> tuple[Array, Array]:
    """What the network said, as (x₀, ε)."""
    if prediction not in PREDICTIONS:
        raise CallError(f"there is no prediction type '{prediction}'; {nearest(prediction, PREDICTIONS)}")
    return PREDICTIONS[prediction](x, out, a, s)


@register
@dataclass(frozen=True)
class Diffusion(Sampler):
    """Noise to sample in `steps` calls of graph(x, t, *conditions); t is float32 `(n,)`, in training
    timesteps.

    shape:            of one sample
    graph:            name of the denoiser
    solver:           `ddpm`, `ddpm_large`, `ddim` or `dpmpp_2m`
    steps:            network calls per sample
    train_steps:      timesteps of the forward process in training
    schedule:         `cosine`, `linear` or `scaled_linear`; the latter two also as `linear(1e-4, 0.02)`
    prediction:       what the network says: `v`, `epsilon` or `x0`
    spacing:          which timesteps are visited: `trailing`, `linspace` or `leading`; more in `SPACINGS`
    offset:           added to every visited timestep
    last:             where sampling ends: `clean` (α = 1), or at timestep `zero`, which keeps a little noise
    clip:             bound of |x₀| at every step, 0 for none
    consistent:       whether ε follows an x₀ that was clipped, so that x = α x₀ + σ ε still holds
    start_scale:      standard deviation of the noise that sampling starts from
    conditions:       names of the conditions, in the order of the denoiser's inputs
    null:             the value of each integer condition that means "nothing asked" (for guidance)
    encoders:         condition → graph that encodes it, once per sample
    guidance:         w in out = out(∅) + w (out(c) − out(∅)) (Ho & Salimans 2022); 1 is plain
                      conditional sampling
    guidance_batched: one call of 2n rather than two of n, whichever was measured faster
    """

    kind: ClassVar[str] = "diffusion"
    shape: tuple[int, ...] = (1,)
    graph: str = "denoiser"
    solver: str = "ddim"
    steps: int = 30
    train_steps: int = 1000
    schedule: str = "cosine"
    prediction: str = "v"
    spacing: str = "trailing"
    offset: int = 0
    last: Literal["clean", "zero"] = "clean"
    clip: float = 1.0
    consistent: bool = True
    start_scale: float = 1.0
    conditions: tuple[str, ...] = ()
    null: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)
    guidance: float = 1.0
    guidance_batched: bool = True

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise CallError(f"there is no solver '{self.solver}'; {nearest(self.solver, SOLVERS)}")
        if self.prediction not in PREDICTIONS:
            raise CallError(
                f"there is no prediction type '{self.prediction}'; {nearest(self.prediction, PREDICTIONS)}"
            )
        if self.guidance != 1.0 and not set(self.conditions) & set(self.null):
            raise CallError("guidance needs a condition with a null value, and this model has none")
        if self.last not in ("clean", "zero"):
            raise CallError(f"sampling ends 'clean' or at timestep 'zero', not at '{self.last}'")
        timesteps(self.spacing, self.train_steps, self.steps, self.offset)  # raises for a bad one
        alpha_bars(self.schedule, self.train_steps)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        times = timesteps(self.spacing, self.train_steps, self.steps, self.offset)
        levels = [self.level(t) for t in (*times, -1)]
        predict = self._predictor(graphs, noise, conditions)

        def model(x: Array, i: int) -> tuple[Array, Array]:
            a, s = levels[i]
            x0, eps = to_x0_eps(self.prediction, x, predict(x, float(times[i])), a, s)
            if self.clip > 0.0:
                x0 = x0.clip(
                    -self.clip, self.clip
                )  # the method: the namespaces' functions cost ten times as much
                eps = (x - a * x0) / s if self.consistent else eps
            if progress:
                progress(i + 1, self.steps)
            return x0, eps

        def fresh(draw: int) -> Array:
            return noise.normal(self.shape, stream="step", draw=draw)

        def projected(x: Array, i: int) -> Array:
            after = float(times[i + 1]) if i + 1 < len(times) else -1.0
            return project(x, after, i) if project else x

        start = noise.normal(self.shape)
        if self.start_scale != 1.0:
            start = start * self.start_scale
        return SOLVERS[self.solver](model, start, levels, fresh, projected)

    def level(self, t: float) -> tuple[float, float]:
        """(α, σ) at timestep `t`; at −1, where sampling ends, (1, 0) or what timestep 0 has.

        Between two timesteps σ/α is interpolated.
        """
        if t < 0 and self.last == "clean":
            return 1.0, 0.0
        bars, t = alpha_bars(self.schedule, self.train_steps), max(t, 0)
        bar, share = bars[int(t)], t % 1.0
        if share:
            ratio = [math.sqrt(1.0 / b - 1.0) for b in (bar, bars[int(t) + 1])]
            bar = 1.0 / (1.0 + ((1.0 - share) * ratio[0] + share * ratio[1]) ** 2)
        return math.sqrt(bar), math.sqrt(1.0 - bar)

    def _predictor(
        self, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
    ) -> Callable[[Array, float], Array]:
        """(x, t) → the network's output, guided where asked. Conditions are encoded here, once."""
        graph, backend = graphs[self.graph], noise.backend

        def encode(values: Mapping[str, Array]) -> list[Array]:
            return [
                graphs[self.encoders[name]](values[name]) if name in self.encoders else values[name]
                for name in self.conditions
            ]

        asked = encode(conditions)

        def clock(t: float, rows: int) -> Array:
            return backend.asarray(np.full(rows, t, dtype=np.float32))

        n, w = noise.n, self.guidance
        if w == 1.0:
            return lambda x, t: graph(x, clock(t, n), *asked)
        # What has no null value (a picture to enlarge, say) is asked both times.
        nothing = {k: v * 0 + self.null[k] if k in self.null else v for k, v in conditions.items()}
        empty = encode(nothing)
        if self.guidance_batched:
            xp = backend.namespace(asked[0])
            both = [xp.concat([c, e], axis=0) for c, e in zip(asked, empty, strict=True)]

            def once(x: Array, t: float) -> Array:
                out = graph(xp.concat([x, x], axis=0), clock(t, 2 * n), *both)
                return out[n:] + w * (out[:n] - out[n:])

            return once

        def twice(x: Array, t: float) -> Array:
            free = graph(x, clock(t, n), *empty)
            return free + w * (graph(x, clock(t, n), *asked) - free)

        return twice

    def graphs_used(self) -> tuple[str, ...]:
        return (*dict.fromkeys(self.encoders.values()), self.graph)

    def evaluations(self) -> int:
        return self.steps * (1 if self.guidance == 1.0 else 2)
