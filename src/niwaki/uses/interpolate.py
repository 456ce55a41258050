"""From one sample to another in equal steps, through latents of given samples or the noise of drawn ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from niwaki.core.errors import CallError
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import check_latents, conditions_of, decode, encode
from niwaki.uses.reading import read_samples
from niwaki.uses.settings import listed
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers.base import Array, Noise
from niwaki_runtime.specs import resolve

__all__ = ["BlendedNoise", "Interpolate", "slerp"]


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The great circle from each row of a `(n, …)` to that of b: sin((1−t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b, Ω
    the angle between the rows (Shoemake 1985). Parallel rows go straight.

    t: `(n,)` in 0 … 1
    """
    flat_a, flat_b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    lengths = np.linalg.norm(flat_a, axis=1) * np.linalg.norm(flat_b, axis=1)
    cosine = (flat_a * flat_b).sum(1) / np.maximum(lengths, 1e-300)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    straight = np.sin(angle) < 1e-6
    sine = np.where(straight, 1.0, np.sin(angle))
    left = np.where(straight, 1.0 - t, np.sin((1.0 - t) * angle) / sine)
    right = np.where(straight, t, np.sin(t * angle) / sine)
    return (left[:, None] * flat_a + right[:, None] * flat_b).reshape(a.shape).astype(a.dtype)


@dataclass(frozen=True)
class BlendedNoise(Noise):
    """Noise on the way from that of some samples to that of others: cos(tπ/2)·a + sin(tπ/2)·b, again standard
    normal. Uniforms, which choose tokens, are those of the nearer end.

    pairs: numbers of the two samples `(n, 2)`; t: `(n,)` in 0 … 1
    """

    pairs: np.ndarray = None  # type: ignore[assignment]
    t: np.ndarray = None  # type: ignore[assignment]

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        ends = [
            np.concatenate(
                [
                    np.asarray(self.backend.numpy(Noise(self.backend, self.seed, int(i), 1, self.base).normal(
                        shape, stream=stream, draw=draw)))
                    for i in side
                ]
            )
            for side in self.pairs.T
        ]  # fmt: skip
        angle = (self.t * math.pi / 2).reshape(-1, *[1] * len(shape))
        return self.backend.asarray((np.cos(angle) * ends[0] + np.sin(angle) * ends[1]).astype(np.float32))

    def uniform(self, size: int = 1, *, stream: str = "token", draw: int = 0) -> np.ndarray:
        nearer = np.where(self.t < 0.5, self.pairs[:, 0], self.pairs[:, 1])
        parts = [
            Noise(self.backend, self.seed, int(i), 1, self.base).uniform(size, stream=stream, draw=draw)
            for i in nearer
        ]
        return np.concatenate(parts)


class InterpolateOptions(UseOptions):
    """
    steps:   samples from one to the next, both ends included
    path:    spherical keeps a latent's length on the way, linear goes straight
    between: numbers of drawn samples, where no files are given, as 0,10,20
    """

    steps: int = Field(8, ge=2)
    path: Literal["spherical", "linear"] = "spherical"
    between: tuple[int, ...] = (0, 1)

    @field_validator("between", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value)


@register_use("interpolate")
class Interpolate(Use):
    """Given samples by their latents; without files, drawn samples by their noise, for any model."""

    Options = InterpolateOptions
    summary = "from one sample to another in equal steps"
    example = "runs/digits-vae a.png b.png steps=9 --class 3 -o way.png"

    def apply(self, call: Call, options: InterpolateOptions) -> Outcome:
        x = self._between_files(call, options) if call.files else self._between_noises(call, options)
        spec = call.model.program(SAMPLING).output
        legs = len(x) // options.steps
        return Outcome(
            record={"steps": options.steps, "legs": legs, "path": options.path},
            lines=[f"{len(x)} samples on {legs} way{'s' if legs > 1 else ''}, {options.path}"],
            x=x,
            spec=spec,
            columns=options.steps,
            ending=".png",
        )

    def _between_files(self, call: Call, options: InterpolateOptions) -> np.ndarray:
        check_latents(call.model, self.name)
        x, _ = read_samples(call.files, call.model.program("encode").inputs["x"].value)
        if len(x) < 2:
            raise CallError("interpolation needs two samples or more")
        asked = conditions_of(call, "encode", len(x))
        z = encode(call, x, asked)
        pairs, t = _ways(range(len(x)), options.steps)
        a, b = z[pairs[:, 0]], z[pairs[:, 1]]
        straight = t.reshape(-1, *[1] * (z.ndim - 1)).astype(z.dtype)
        way = slerp(a, b, t) if options.path == "spherical" else (1 - straight) * a + straight * b
        nearer = np.where(t < 0.5, pairs[:, 0], pairs[:, 1])
        return decode(call, way, {k: v[nearer] for k, v in asked.items()})

    def _between_noises(self, call: Call, options: InterpolateOptions) -> np.ndarray:
        if len(options.between) < 2 or min(options.between) < 0:
            raise CallError("between names two numbers of samples or more, as between=[0,1]")
        if options.path == "linear":
            raise CallError(
                "noise is not blended straight: half-way it would be too weak; use path=spherical"
            )
        program, runner = call.model.program(SAMPLING), call.model
        pairs, t = _ways(options.between, options.steps)
        asked: Any = call.asked
        n = len(t)
        if asked is None:  # one class all the way: what changes is the noise
            asked = {k: s.default(0, 1)[0] for k, s in program.inputs.items() if s.is_label}  # type: ignore[index]
        rows = resolve(program.inputs, asked, 0, n)
        backend, graphs, parts = runner.backend(), runner.callable_graphs(), []
        size = n if not runner.even_batches else options.steps
        with runner.running():
            for at in range(0, n, size):
                here = slice(at, at + size)
                noise = BlendedNoise(backend, call.seed, 0, len(t[here]), pairs=pairs[here], t=t[here])
                given = {k: backend.asarray(v[here]) for k, v in rows.items()}
                parts.append(np.asarray(backend.numpy(program.sampler(graphs, noise, given))))
        return np.concatenate(parts)


def _ways(ends: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of ends `(n, 2)` and how far between them `(n,)`, leg by leg."""
    ends = list(ends)
    legs = list(itertools.pairwise(ends))
    pairs = np.repeat(np.array(legs), steps, axis=0)
    return pairs, np.tile(np.linspace(0.0, 1.0, steps), len(legs))
