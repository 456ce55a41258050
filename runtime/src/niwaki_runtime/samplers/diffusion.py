"""Sampling from a denoiser: process, prediction type and guidance around a solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.process import END, Process, VariancePreserving, process_from_json
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register
from niwaki_runtime.samplers.solvers import SOLVERS

__all__ = ["Diffusion"]

_OF_PROCESS = ("schedule", "train_steps", "spacing", "offset", "last")


@register
@dataclass(frozen=True)
class Diffusion(Sampler):
    """Noise to sample in `steps` steps of a solver around graph(x, t, *conditions).

    The graph is given what the process makes of x and t (`network_input`, `network_time`): t is float32
    `(n,)`, of a variance-preserving process the training timestep.

    shape:            of one sample
    graph:            name of the denoiser
    solver:           `ddim`, `ddpm`, `ddpm_large`, `euler`, `heun`, `dpmpp_2m` or `consistency`
    steps:            of the solver; what they cost is said by `evaluations`
    process:          the path from data to noise and the times that are visited; may be given as its JSON
    prediction:       what the network says: one of the process's `predictions`
    clip:             bound of |x₀| at every step, 0 for none
    consistent:       whether ε follows an x₀ that was clipped, so that x = α x₀ + σ ε still holds
    start_scale:      factor of the noise that sampling starts from
    conditions:       names of the conditions, in the order of the denoiser's inputs
    null:             the value of each integer condition that means "nothing asked" (for guidance)
    encoders:         condition → graph that encodes it, once per sample
    guidance:         w in out = out(∅) + w (out(c) − out(∅)) (Ho & Salimans 2022); 1 is plain
                      conditional sampling
    guidance_batched: one call of 2n rather than two of n, whichever was measured faster
    self_conditioning: the network's last input is the x₀ of the call before, at first zeros (Chen, Zhang &
                      Hinton 2022)
    learned_variance: the network's second output is the share v in ln Σ = v ln β + (1 − v) ln β̃, which the
                      solver `ddpm` draws with (Nichol & Dhariwal 2021, Equation 15)
    schedule, train_steps, spacing, offset, last:
                      fields of the process that may be given (or overridden) beside it, as manifests of
                      schema 2 and earlier do; they are read from `process`, and None here
    """

    kind: ClassVar[str] = "diffusion"
    shape: tuple[int, ...] = (1,)
    graph: str = "denoiser"
    solver: str = "ddim"
    steps: int = 30
    process: Process = field(default_factory=VariancePreserving)
    prediction: str = "v"
    clip: float = 1.0
    consistent: bool = True
    start_scale: float = 1.0
    conditions: tuple[str, ...] = ()
    null: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)
    guidance: float = 1.0
    guidance_batched: bool = True
    self_conditioning: bool = False
    learned_variance: bool = False
    schedule: str | None = None
    train_steps: int | None = None
    spacing: str | None = None
    offset: int | None = None
    last: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.process, Process):  # as JSON and calls write it
            object.__setattr__(self, "process", process_from_json(self.process))
        check_shape(self.shape, "the sampler 'diffusion'")
        told = {name: getattr(self, name) for name in _OF_PROCESS if getattr(self, name) is not None}
        if told:
            object.__setattr__(self, "process", self.process.override(**told))
            for name in told:
                object.__setattr__(self, name, None)
        if self.solver not in SOLVERS:
            raise CallError(f"there is no solver '{self.solver}'; {nearest(self.solver, SOLVERS)}")
        if SOLVERS[self.solver].ancestral and not self.process.preserves_variance:
            raise CallError(
                f"the solver '{self.solver}' adds the noise of a variance-preserving process, and this one "
                f"is '{self.process.kind}'; choose ddim, euler, heun or dpmpp_2m"
            )
        self.process.conversion(self.prediction)  # raises for a bad one
        if self.guidance != 1.0 and not set(self.conditions) & set(self.null):
            raise CallError("guidance needs a condition with a null value, and this model has none")
        self.process.times(self.steps)  # raises for a bad number

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        process = self.process
        times, levels = process.times(self.steps), process.levels(self.steps)
        read = process.conversion(self.prediction).to_x0_eps
        predict = self._predictor(graphs, noise, conditions)
        done, before, share = 0, None, None

        def model(x: Array, i: int) -> tuple[Array, Array]:
            nonlocal done, before, share
            a, s = levels[i]
            before = x * 0.0 if before is None else before
            more = [before] if self.self_conditioning else []
            out, *rest = predict(process.network_input(x, a, s), process.network_time(times[i]), *more)
            share = rest[0] if self.learned_variance else None
            x0, eps = read(x, out, a, s)
            if self.clip > 0.0:
                x0 = x0.clip(
                    -self.clip, self.clip
                )  # the method: the namespaces' functions cost ten times as much
                eps = (x - a * x0) / s if self.consistent else eps
            before = x0
            done += self._per_call
            if progress:
                progress(done, self.evaluations())
            return x0, eps

        def fresh(draw: int) -> Array:
            drawn = noise.normal(self.shape, stream="step", draw=draw)
            if self.solver != "ddpm" or share is None:
                return drawn
            # β̃ = (σ'/σ)² β, so √Σ = √β̃ (σ/σ')^v.
            return drawn * (levels[draw][1] / levels[draw + 1][1]) ** share

        def projected(x: Array, i: int) -> Array:
            after = float(times[i + 1]) if i + 1 < len(times) else END
            return project(x, after, i) if project else x

        start, scale = noise.normal(self.shape), self.start_scale * process.start_scale(self.steps)
        if scale != 1.0:
            start = start * scale
        return SOLVERS[self.solver](model, start, levels, fresh, projected)

    def level(self, t: float) -> tuple[float, float]:
        """(α, σ) at time `t` of the process; at −1 those at which sampling ends."""
        return self.process.alpha_sigma(t)

    def _predictor(
        self, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
    ) -> Callable[..., tuple[Array, ...]]:
        """(x, t, x₀ of before where it is asked for) → the network's outputs, the first guided where asked
        and the others as conditioned. Conditions are encoded here, once."""
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
            return lambda x, t, *more: outputs(graph(x, clock(t, n), *asked, *more))
        # What has no null value (a picture to enlarge, say) is asked both times.
        nothing = {k: v * 0 + self.null[k] if k in self.null else v for k, v in conditions.items()}
        empty = encode(nothing)
        if self.guidance_batched:
            xp = backend.namespace(asked[0])
            both = [xp.concat([c, e], axis=0) for c, e in zip(asked, empty, strict=True)]

            def once(x: Array, t: float, *more: Array) -> tuple[Array, ...]:
                twins = [xp.concat([v, v], axis=0) for v in (x, *more)]
                out, *rest = outputs(graph(twins[0], clock(t, 2 * n), *both, *twins[1:]))
                return out[n:] + w * (out[:n] - out[n:]), *(v[:n] for v in rest)

            return once

        def twice(x: Array, t: float, *more: Array) -> tuple[Array, ...]:
            free, *_ = outputs(graph(x, clock(t, n), *empty, *more))
            out, *rest = outputs(graph(x, clock(t, n), *asked, *more))
            return free + w * (out - free), *rest

        return twice

    def graphs_used(self) -> tuple[str, ...]:
        return (*dict.fromkeys(self.encoders.values()), self.graph)

    @property
    def _per_call(self) -> int:
        """Network evaluations behind one call of the solver's model."""
        return 1 if self.guidance == 1.0 else 2

    def evaluations(self) -> int:
        return self._per_call * SOLVERS[self.solver].evaluations(self.steps)

    def to_json(self) -> dict[str, Any]:
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OF_PROCESS}
        for option in ("self_conditioning", "learned_variance"):  # which older runtimes do not know
            if not rest[option]:
                del rest[option]
        return {"kind": self.kind, **rest, "process": self.process.to_json()}
