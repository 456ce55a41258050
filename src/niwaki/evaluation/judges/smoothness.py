"""Perceptual path length of any program whose results follow from one draw of normal noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from niwaki.core.contract import Runner
from niwaki.evaluation.judges.running import exactly
from niwaki.evaluation.metrics.path_length import path_length
from niwaki.evaluation.statistics.result import Result
from niwaki_runtime import noise as runtime_noise
from niwaki_runtime.samplers.base import Array, Noise
from niwaki_runtime.specs import resolve

__all__ = ["latent_shape", "smoothness"]

PATHS = 256
EPSILON = 1e-3
"""Step along a path: float32 networks round by 1e-7, which at the usual 1e-4 would be seen."""


@dataclass(frozen=True)
class _Recorded(Noise):
    """Notes the shape of the first latent."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        if stream == "latent" and self.base + draw == 0:
            self.shapes.append(tuple(shape))
        return super().normal(shape, stream=stream, draw=draw)


@dataclass(frozen=True)
class _Given(Noise):
    """The first latent is what it is told to be; every other draw is as always."""

    latents: Any = None

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Array:
        if stream == "latent" and self.base + draw == 0:
            return self.latents
        return super().normal(shape, stream=stream, draw=draw)


def latent_shape(runner: Runner, program: str, inputs: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    """Shape of the noise that one result begins with; None where it begins with none (tokens, decoders)."""
    asked = runner.program(program)
    rows = resolve(asked.inputs, {k: v[:1] for k, v in inputs.items()}, 0, 1)
    backend = runner.backend()
    noise = _Recorded(backend, 0, 0, 1)
    with runner.running():
        asked.sampler(runner.callable_graphs(), noise, {k: backend.asarray(v) for k, v in rows.items()})
    return noise.shapes[0] if noise.shapes else None


def smoothness(
    runner: Runner,
    program: str,
    inputs: Mapping[str, np.ndarray],
    *,
    features: Callable[[Any], Any] | None = None,
    paths: int = PATHS,
    seed: int = 0,
) -> Result | None:
    """`path_length` of a program; path i has the inputs of row i. None where there is no latent.

    inputs: one row for each of at least `paths` samples
    """
    shape = latent_shape(runner, program, inputs)
    if shape is None:
        return None
    asked, graphs, backend = runner.program(program), runner.callable_graphs(), runner.backend()
    rows = resolve(asked.inputs, {k: v[:paths] for k, v in inputs.items()}, 0, paths)

    def made(z: np.ndarray, index: np.ndarray) -> np.ndarray:
        given = {k: backend.asarray(v[index]) for k, v in rows.items()}
        latents = backend.asarray(np.ascontiguousarray(z, dtype=np.float32))
        noise = _Given(backend, seed, int(index[0]), len(index), latents=latents)
        return np.asarray(backend.numpy(asked.sampler(graphs, noise, given)))

    ends = runtime_noise.normal(seed, 0, 2 * paths, shape)
    with runner.running(), exactly():
        found = path_length(
            made, ends, features=features, labels=np.arange(paths), epsilon=EPSILON, seed=seed,
            batch=min(64, runner.usual_batch),
        )  # fmt: skip
    return replace(found, signature=f"{found.signature}|program:{program}")
