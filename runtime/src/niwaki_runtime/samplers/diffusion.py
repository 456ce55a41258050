"""Sampling from a denoiser: process, prediction type and guidance around a solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from niwaki_runtime.process import END, Process, VariancePreserving, process_from_json
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register
from niwaki_runtime.samplers.diffusion_checks import check_diffusion
from niwaki_runtime.samplers.guidance import free_share, guided_output, limited
from niwaki_runtime.samplers.solvers import SOLVERS, Level, ddim

__all__ = ["Diffusion"]

_OF_PROCESS = ("schedule", "train_steps", "spacing", "offset", "last")
_LATER = (
    "self_conditioning", "learned_variance", "threshold", "guide", "guidance_interval", "churn",
    "churn_interval", "churn_noise", "eta", "start", "also", "also_weights",
)  # fmt: skip
"""Fields that manifests name where they are set: runtimes of before know the others."""
_MOST_CHURN = math.sqrt(2.0) - 1.0


@register
@dataclass(frozen=True)
class Diffusion(Sampler):
    """Noise to sample in `steps` steps of a solver around graph(x, t, *conditions).

    The graph is given what the process makes of x and t (`network_input`, `network_time`): t is float32
    `(n,)`, of a variance-preserving process the training timestep.

    shape:            of one sample
    graph:            name of the denoiser
    solver:           `ddim`, `ddpm`, `ddpm_large`, `euler`, `heun`, `heun_ratio`, `dpmpp_2m`, `unipc` or
                      `consistency`
    steps:            of the solver; what they cost is said by `evaluations`
    process:          the path from data to noise and the times that are visited; may be given as its JSON
    prediction:       what the network says: one of the process's `predictions`
    clip:             bound of |x₀| at every step, 0 for none
    threshold:        share of a sample's |x₀| that stays unclipped (0.995), the others fixing a scale for it
                      where that is beyond `clip` (dynamic thresholding); 0 clips alone
    consistent:       whether ε follows an x₀ that was clipped, so that x = α x₀ + σ ε still holds
    start_scale:      factor of the noise that sampling starts from
    conditions:       names of the conditions, in the order of the denoiser's inputs
    null:             the value of each integer condition that means "nothing asked" (for guidance)
    encoders:         condition → graph that encodes it, once per sample; all of its outputs are inputs of the
                      denoiser
    guidance:         w in out = out(∅) + w (out(c) − out(∅)) (Ho & Salimans 2022); 1 is plain
                      conditional sampling
    guidance_batched: one call of 2n rather than two of n, whichever was measured faster
    also:             further sets of conditions, each as the names of conditions in the places of
                      `conditions` (`niwaki_runtime.compose` makes them)
    also_weights:     what they count: out(∅) + w (out(c) − out(∅)) + Σ wᵢ (out(cᵢ) − out(∅)) (Liu et al.
                      2022); below 0 leads away
    self_conditioning: the network's last input is the x₀ of the call before, at first zeros (Chen, Zhang &
                      Hinton 2022)
    learned_variance: the network's second output is the share v in ln Σ = v ln β + (1 − v) ln β̃, which the
                      solver `ddpm` draws with (Nichol & Dhariwal 2021, Equation 15)
    guide:            name of a weaker denoiser with the same inputs, which then guides in the place of out(∅)
                      (autoguidance)
    guidance_interval: times of the process (least, greatest) at which it is guided, at all others asked for
                      `conditions` alone, which saves the second call (Kynkäänniemi et al. 2024); of Karras's
                      process times are σ
    churn:            S_churn of Karras et al. 2022, Algorithm 2: noise that `euler` and `heun` add before
                      steps, shared by all of them; 0 for none
    churn_interval:   times of the process (S_min, S_max) at which they do; None is all
    churn_noise:      S_noise, factor of that noise
    eta:              η of `ddim`: 0 adds no noise, 1 that of `ddpm` (Song, Meng & Ermon 2021, Equation 16)
    start:            name of the condition that holds the standard normal noise that sampling starts from
                      (`inversion` finds it), where it is not drawn
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
    threshold: float = 0.0
    guide: str = ""
    guidance_interval: tuple[float, float] | None = None
    churn: float = 0.0
    churn_interval: tuple[float, float] | None = None
    churn_noise: float = 1.0
    eta: float = 0.0
    start: str = ""
    also: tuple[tuple[str, ...], ...] = ()
    also_weights: tuple[float, ...] = ()
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
        check_diffusion(self)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        start = conditions[self.start] if self.start else noise.normal(self.shape)
        scale = self.start_scale * self.process.start_scale(self.steps)
        if scale != 1.0:
            start = start * scale
        return self.steps_from(0, start, graphs, noise, conditions, project=project, progress=progress)

    def steps_from(
        self,
        first: int,
        start: Array,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """The samples that steps `first` … lead to, where x is `start` at the time of the first of them."""
        process = self.process
        times, levels = process.times(self.steps)[first:], process.levels(self.steps)[first:]
        hats, ask = self._hats()[first:], self._asked(graphs, noise, conditions)
        done, total = 0, self.evaluations(first)
        share: Array = None

        def model(x: Array, i: int, raised: bool = False) -> tuple[Array, Array]:
            nonlocal done, share
            hat = hats[i] if raised else None
            t, level = (times[i], levels[i]) if hat is None else hat
            x0, eps, further = ask(x, t, level)
            share = further[0] if self.learned_variance else None
            done += self.cost(t)
            if progress:
                progress(done, total)
            return x0, eps

        def fresh(draw: int) -> Array:
            drawn = noise.normal(self.shape, stream="step", draw=draw)
            if self.solver == "ddpm" and share is not None:
                # β̃ = (σ'/σ)² β, so √Σ = √β̃ (σ/σ')^v.
                return drawn * (levels[draw][1] / levels[draw + 1][1]) ** share
            return drawn * self.churn_noise if self.churn and self.churn_noise != 1.0 else drawn

        def projected(x: Array, i: int) -> Array:
            after = float(times[i + 1]) if i + 1 < len(times) else END
            return project(x, after, i) if project else x

        raised = [None if hat is None else hat[1] for hat in hats]
        if self.eta:
            return ddim(model, start, levels, fresh, projected, eta=self.eta)
        return SOLVERS[self.solver](model, start, levels, fresh, projected, raised)

    def predictor(
        self, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
    ) -> Callable[[Array, float, Level], tuple[Array, Array]]:
        """(x, t, (α, σ)) → (x₀, ε) as the fields say: guided, read and clipped."""
        ask = self._asked(graphs, noise, conditions)
        return lambda x, t, level: ask(x, t, level)[:2]

    def _asked(
        self, graphs: Mapping[str, Runner], noise: Noise, conditions: Mapping[str, Array]
    ) -> Callable[[Array, float, Level], tuple[Array, Array, tuple[Array, ...]]]:
        """(x, t, (α, σ)) → (x₀, ε), and what else the network says."""
        process, read = self.process, self.process.conversion(self.prediction).to_x0_eps
        output = guided_output(self, graphs, noise, conditions)
        before: Array = None

        def ask(x: Array, t: float, level: Level) -> tuple[Array, Array, tuple[Array, ...]]:
            nonlocal before
            a, s = level
            more = () if not self.self_conditioning else (x * 0.0 if before is None else before,)
            given = process.network_input(x, a, s)
            out, *further = output(given, process.network_time(t), self._weights(t), *more)
            x0, eps = read(x, out, a, s)
            if self.clip > 0.0:
                x0 = limited(x0, self.clip, self.threshold, noise)
                eps = (x - a * x0) / s if self.consistent else eps
            before = x0
            return x0, eps, tuple(further)

        return ask

    def as_ddim(self) -> Self:
        """The same path in steps of DDIM that draw nothing and are not guided, as many as this one asks the
        network: what can be inverted."""
        steps = SOLVERS[self.solver].evaluations(self.steps)
        return replace(
            self, solver="ddim", eta=0.0, churn=0.0, guidance=1.0, guide="", also=(), also_weights=(),
            steps=min(steps, self.process.timesteps or steps),
        )  # fmt: skip

    def level(self, t: float) -> tuple[float, float]:
        """(α, σ) at time `t` of the process; at −1 those at which sampling ends."""
        return self.process.alpha_sigma(t)

    def _hats(self) -> list[tuple[float, Level] | None]:
        """For each step the time and level with more noise at which it begins, σ̂ = (1 + γ) σ (Karras et al.
        2022, Algorithm 2, line 4), or None."""
        process, gamma = self.process, min(self.churn / self.steps, _MOST_CHURN)
        hats: list[tuple[float, Level] | None] = []
        for t in process.times(self.steps):
            a, s = process.alpha_sigma(t)
            hat = None
            if gamma and a and _within(t, self.churn_interval):
                raised = process.time_at((1.0 + gamma) * s / a)
                hat = (raised, process.alpha_sigma(raised)) if raised > t else None
            hats.append(hat)
        return hats

    def graphs_used(self) -> tuple[str, ...]:
        guide = (self.guide,) if self.guide else ()
        return (*dict.fromkeys((*self.encoders.values(), self.graph, *guide)),)

    def conditions_used(self) -> tuple[str, ...]:
        further = (name for names in self.also for name in names)
        start = (self.start,) if self.start else ()
        return tuple(dict.fromkeys((*self.conditions, *further, *start)))

    @property
    def only_asked(self) -> bool:
        """Whether the network is asked for `conditions` alone, all the way."""
        return self.guidance == 1.0 and not self.also

    def _weights(self, t: float) -> tuple[float, ...]:
        """Of `conditions` and of each of `also`, at a time of the process."""
        if _within(t, self.guidance_interval):
            return self.guidance, *self.also_weights
        return 1.0, *(0.0 for _ in self.also)

    def cost(self, t: float) -> int:
        """Network evaluations at a time of the process: two where it is guided by one condition."""
        weights = self._weights(t)
        return sum(share != 0.0 for share in (*weights, free_share(weights)))

    def evaluations(self, first: int = 0) -> int:
        """Calls of the network in the steps from the `first` on."""
        calls, hats = SOLVERS[self.solver].calls(self.steps - first), self._hats()[first:]
        total = 0
        for t, hat, count in zip(self.process.times(self.steps)[first:], hats, calls, strict=True):
            total += self.cost(t if hat is None else hat[0]) + (count - 1) * self.cost(t)
        return total

    def to_json(self) -> dict[str, Any]:
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OF_PROCESS}
        for f in fields(self):
            if f.name in _LATER and rest[f.name] == f.default:
                del rest[f.name]
        return {"kind": self.kind, **rest, "process": self.process.to_json()}


def _within(t: float, interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= t <= interval[1]
