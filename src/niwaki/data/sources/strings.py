"""Plucked strings, computed from what happens on them: short sounds whose pitch, pluck and decay are known.

The class of a sound is its note; where the string is plucked and how long it sounds are the columns `pluck`
and `decay`. The splits hold the same notes with other plucks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from niwaki.core.contract import DataSpec, Real, ValueSpec
from niwaki.data.cache import cached
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.plucked import Strings, frequency, pluck
from niwaki.data.splitting import SPLITS, shares

__all__ = ["DECAY", "PLUCK", "StringsOptions", "strings"]

VERSION = 1  # of the physics: a change here makes cached sounds stale
PLUCK = (0.08, 0.5)
"""Where strings are plucked, as a share of their length."""
DECAY = (0.25, 1.5)
"""Seconds in which the lowest harmonics fall by 60 dB."""
_WIDTH = (0.3e-3, 1.2e-3)  # seconds in which the plectrum lets go
_LOUD = (0.4, 0.95)  # the largest value of a sound
_CENTS = 4.0  # by which strings are out of tune, either way


class StringsOptions(Options):
    """Settings of `strings`.

    samples: sounds over all three splits
    length:  steps of one sound
    rate:    steps per second
    notes:   the classes
    rattle:  noise in what the plectrum does, beside a step of 1
    """

    samples: int = Field(default=4000, ge=30, le=200_000)
    length: int = Field(default=2000, ge=16, le=200_000)
    rate: float = Field(default=8000.0, ge=1000, le=96_000)
    notes: tuple[str, ...] = ("C3", "D3", "E3", "F3", "G3", "A3", "B3", "C4")
    rattle: float = Field(default=0.05, ge=0, le=1)

    @field_validator("notes")
    @classmethod
    def _playable(cls, notes: tuple[str, ...]) -> tuple[str, ...]:
        if not notes or len(set(notes)) < len(notes):
            raise ValueError("notes must be named, each once")
        for note in notes:
            if not 20.0 <= frequency(note) <= 2000.0:
                raise ValueError(f"the note '{note}' must lie between 20 and 2000 Hz")
        return notes


def _draw(counts: tuple[int, ...], options: StringsOptions, seed: int) -> dict[str, Tensor]:
    """All sounds with what is known of them; counts: of the splits. Within one, notes are equally frequent,
    give or take one."""
    parts: dict[str, list[np.ndarray]] = {"x": [], "y": [], "pluck": [], "decay": []}
    hertz = np.array([frequency(note) for note in options.notes])
    for split, count in enumerate(counts):
        rng = np.random.default_rng([seed, split, 0x57716])
        y = rng.permutation(np.arange(count, dtype=np.int64) % len(hertz))
        cents, at, loud = (rng.uniform(*ends, count) for ends in ((-_CENTS, _CENTS), PLUCK, _LOUD))
        decay, width = (
            np.exp(rng.uniform(np.log(low), np.log(high), count)) for low, high in (DECAY, _WIDTH)
        )
        played = Strings(hertz[y] * 2.0 ** (cents / 1200), at, decay, width, options.rattle)
        x = pluck(played, options.length, options.rate, rng)
        x *= (loud / np.abs(x).max(1))[:, None]
        for name, values in (("x", x.astype(np.float32)), ("y", y), ("pluck", at), ("decay", decay)):
            parts[name].append(values)
    found = {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()}
    return {name: v.float() if v.is_floating_point() else v for name, v in found.items()}


@register("strings", StringsOptions)
def strings(config: DataConfig, options: StringsOptions, progress: Progress | None) -> Pool:
    """Sounds `(samples, length)` in −1 … 1."""
    counts = shares(options.samples, config.fractions)
    ingredients = {"version": VERSION, "options": options, "seed": config.seed, "counts": counts}
    found, findings = cached("strings", ingredients, lambda: _draw(counts, options, config.seed))
    notes = options.notes
    spec = DataSpec.of("audio", (options.length,), classes=len(notes), class_names=notes)
    sound = replace(spec.x, rate=options.rate)
    return Pool(
        "strings",
        replace(spec, columns={**spec.columns, "x": sound}),
        found["x"],
        found["y"],
        columns={
            name: Column(ValueSpec("vector", (), "", Real(*ends)), found[name])
            for name, ends in (("pluck", PLUCK), ("decay", DECAY))
        },
        assignment=np.repeat(np.arange(len(SPLITS)), counts),
        findings=findings,
    )
