"""Averages whose length is chosen after the training (Karras et al. 2024, EDM2, Section 3.2, "post-hoc EMA").

Two power-function averages are tracked and kept at a few steps. After T steps the average of length σ_rel is
θ = Σᵢ cᵢ·θᵢ over these snapshots, where the weights c bring the sum of their profiles nearest to the profile
of σ_rel: min ‖Σᵢ cᵢ·pᵢ − p‖². The profile of an average is the share in it of the weights after each step,
here that of its recursion, which telescopes: pᵢ(s) = (sᵍ − (s − 1)ᵍ) / tᵢᵍ for s ≤ tᵢ, with g = γ + 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.base_config import BaseConfig
from niwaki.core.store import read_tensors, write_tensors
from niwaki.training.averages import LONGEST, exponent_of
from niwaki_runtime.errors import CallError

__all__ = [
    "PostHocConfig",
    "Snapshot",
    "coefficients",
    "find_snapshots",
    "gram",
    "reconstruct",
    "snapshot_steps",
    "write_snapshot",
]

Length = Annotated[float, Field(gt=0, lt=LONGEST)]
Snapshot = tuple[int, float]
"""Step t (1 …) and length σ_rel of an average that was kept."""


def snapshot_steps(steps: int, count: int) -> set[int]:
    """Steps after which averages are kept: `count` of them, evenly, the last step among them."""
    return {math.ceil(k * steps / count) for k in range(1, count + 1)}


def gram(one: Sequence[Snapshot], other: Sequence[Snapshot]) -> np.ndarray:
    """⟨pᵢ, qⱼ⟩ of two lists of profiles `(len(one), len(other))`, summed step by step in float64.

    Steps are taken as shares of the last one, so that no power overflows.
    """
    last = max(t for t, _ in (*one, *other))
    edges = np.arange(last + 1) / last
    powers = {length: exponent_of(length) + 1.0 for _, length in (*one, *other)}
    shares = {length: np.diff(edges**g) for length, g in powers.items()}
    sums: dict[tuple[float, float], np.ndarray] = {}
    found = np.empty((len(one), len(other)))
    for i, (t, a) in enumerate(one):
        for j, (u, b) in enumerate(other):
            if (a, b) not in sums:
                sums[a, b] = np.cumsum(shares[a] * shares[b])
            scale = edges[t] ** powers[a] * edges[u] ** powers[b]
            found[i, j] = sums[a, b][min(t, u) - 1] / scale
    return found


def coefficients(snapshots: Sequence[Snapshot], wanted: Snapshot) -> tuple[np.ndarray, float]:
    """The weights c `(len(snapshots),)` of the average `wanted`, and how far the profiles stay apart:
    ‖Σ cᵢpᵢ − p‖ / ‖p‖."""
    within, across = gram(snapshots, snapshots), gram(snapshots, [wanted])[:, 0]
    # Profiles of neighbouring steps are nearly parallel: scaled to one length and cut at the rounding error.
    scale = 1.0 / np.sqrt(np.diag(within))
    found = np.linalg.lstsq(within * scale[:, None] * scale, across * scale, rcond=1e-12)[0] * scale
    norm = float(gram([wanted], [wanted])[0, 0])
    apart = norm - 2.0 * found @ across + found @ within @ found
    return found, math.sqrt(max(float(apart), 0.0) / norm)


def write_snapshot(folder: Path, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
    """Keep the averages after step `step` (1 …) of a stage, by length and parameter."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{length}/{name}": t.detach() for length, of in averages.items() for name, t in of.items()}
    write_tensors(folder / f"step-{step:07d}.safetensors", tensors)


def find_snapshots(folder: Path) -> dict[int, Path]:
    """The files of a folder by step. Raises CallError where there is none."""
    found = {
        int(m[1]): p for p in folder.glob("step-*.safetensors") if (m := re.match(r"step-(\d+)", p.name))
    }
    if not found:
        raise CallError(f"{folder} holds no averages; train with 'train.post_hoc'")
    return dict(sorted(found.items()))


def reconstruct(folder: Path, lengths: Sequence[float]) -> dict[float, dict[str, Tensor]]:
    """The averages of any lengths at the last step that was kept, by length and parameter.

    lengths: σ_rel, above 0 and below 0.288, that of the uniform average
    Raises CallError for a length that cannot be, and where there is nothing to make it of.
    """
    for length in lengths:
        if not 0.0 < length < LONGEST:
            raise CallError(f"the length of an average is above 0 and below {LONGEST:.3f}, not {length}")
    files = find_snapshots(folder)
    kept = {step: read_tensors(path) for step, path in files.items()}
    snapshots = [(step, length) for step, of in kept.items() for length in sorted(_lengths(of))]
    made: dict[float, dict[str, Tensor]] = {}
    for length in lengths:
        weights, _ = coefficients(snapshots, (max(files), length))
        sums: dict[str, Tensor] = {}
        for weight, (step, tracked) in zip(weights, snapshots, strict=True):
            for key, value in kept[step].items():
                of, _, name = key.partition("/")
                if float(of) == tracked:
                    term = value.to(torch.float64) * weight
                    sums[name] = sums[name] + term if name in sums else term
        like = {key.partition("/")[2]: value.dtype for key, value in kept[max(files)].items()}
        made[length] = {name: value.to(like[name]) for name, value in sums.items()}
    return made


def _lengths(tensors: Mapping[str, Tensor]) -> set[float]:
    return {float(key.partition("/")[0]) for key in tensors}


class PostHocConfig(BaseConfig):
    """Averages whose length is chosen after the training.

    snapshots: how many times in a stage the two tracked averages are kept
    tracked:   their lengths σ_rel
    lengths:   those that are tried in the end: the one of the lowest held-out loss is what the model gets
    """

    snapshots: int = Field(16, ge=1)
    tracked: tuple[Length, Length] = (0.05, 0.10)
    lengths: tuple[Length, ...] = (0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.25)
