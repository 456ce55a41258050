"""Mixed samples: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of any model that is told something
about its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import Batch, DataSpec, GenerativeModel, Levels, Trainable, ValueSpec
from niwaki.training.mixing_config import MixConfig
from niwaki.training.schedule import seed_of
from niwaki_runtime.errors import CallError

__all__ = ["Mixed", "Mixer", "build_mixer"]


@dataclass(frozen=True)
class Mixed:
    """A batch of mixed samples, known by two things each.

    first, second: the same samples, with the names (classes, captions) of either sample that one is made of;
                   amounts that stand beside samples are mixed as they are. One batch where there are no names
    share:         λ, of the first
    """

    first: Batch
    second: Batch
    share: float

    def total(self, first: Tensor, second: Tensor) -> Tensor:
        """λ a + (1 − λ) b. Of a cross-entropy this is the one with the mixed target λ y + (1 − λ) y', in
        which it is linear (Zhang et al. 2018, Equation 1)."""
        return self.share * first + (1.0 - self.share) * second


class Mixer:
    """Mixes each sample with another one of its batch; λ ~ Beta(α, α) and the box are one for a batch, as in
    the code of both papers, and follow from the seed and the batch's number, on every process alike."""

    def __init__(self, config: MixConfig, spec: DataSpec, seed: int) -> None:
        self.config, self.spec, self.seed = config, spec, seed

    def mix(self, batch: Batch, number: int, progress: float, *, stored: bool = True) -> Mixed | None:
        """None where this batch stays as it is.

        stored: whether the samples are those of the data, so that of levels only levels come out
        """
        rng, config = np.random.default_rng(seed_of(self.seed, "mix", number) % 2**63), self.config
        if len(batch) < 2 or progress >= config.until or rng.random() >= config.share:
            return None
        cut = rng.random() < (0.5 if config.mixup and config.cutmix else float(config.cutmix > 0))
        alpha = config.cutmix if cut else config.mixup
        share = float(rng.beta(alpha, alpha))
        other = batch.map(lambda t, by=int(rng.integers(1, len(batch))): t.roll(by, 0))  # type: ignore[misc]
        box = _box(self.spec.x, share, rng) if cut else None
        if box is not None:
            share = 1.0 - float(np.prod([len(range(*part.indices(n))) / n for part, n in box]))
        columns: dict[str, Tensor] = {}
        for name, value in batch.items():
            if value.is_floating_point():
                spec = self.spec.columns.get(name)
                if box is not None and spec is not None and _sides(spec) == _sides(self.spec.x):
                    columns[name] = _pasted(value, other[name], spec, box)
                else:
                    columns[name] = torch.lerp(other[name], value, share)
                    if stored and spec is not None:
                        columns[name] = _on_levels(columns[name], spec)
        first = batch.replaced(**columns)
        names = len(columns) < len(list(batch.keys()))
        return Mixed(first, other.replaced(**columns) if names else first, share)


Box = list[tuple[slice, int]]
"""A stretch of each side, and the side's length."""


def _box(x: ValueSpec, share: float, rng: np.random.Generator) -> Box:
    """A box of the share 1 − λ of the sample, its middle anywhere, cut off at the edges (Yun et al. 2019,
    Equation 2, for any number of sides)."""
    sides = [side for _, side in _sides(x)]
    half = 0.5 * (1.0 - share) ** (1.0 / len(sides))
    box = []
    for side in sides:
        middle = rng.random() * side
        box.append((slice(max(round(middle - half * side), 0), min(round(middle + half * side), side)), side))
    return box


def _pasted(value: Tensor, other: Tensor, spec: ValueSpec, box: Box) -> Tensor:
    at: list[slice] = [slice(None)]
    parts = iter(box)
    for letter in spec.axes or "":
        at.append(slice(None) if letter == "C" else next(parts)[0])
    made = value.clone()
    made[tuple(at)] = other[tuple(at)]
    return made


def _sides(spec: ValueSpec) -> list[tuple[str, int]]:
    """The axes of a sample along which places lie, and how many."""
    return [(a, n) for a, n in zip(spec.axes or "", spec.shape, strict=True) if a != "C"]


def _on_levels(x: Tensor, spec: ValueSpec) -> Tensor:
    """The nearest levels, of data that have no others."""
    if not isinstance(spec.values, Levels) or spec.values.n < 2:
        return x
    step = (spec.high - spec.low) / (spec.values.n - 1)
    return spec.low + ((x - spec.low) / step).round() * step


def build_mixer(config: MixConfig | None, model: Trainable, spec: DataSpec, seed: int) -> Mixer | None:
    """Raises CallError where samples, or what they are known by, cannot be mixed."""
    if config is None:
        return None
    asked = set(model.conditions) if isinstance(model, GenerativeModel) else set(spec) - {"x"}
    if not asked & set(spec):
        raise CallError(
            "train.mix mixes samples together with what they are known by, and this model is told nothing "
            "about its samples: it would only learn to make mixtures"
        )
    if spec.x.is_tokens:
        raise CallError("train.mix needs samples of amounts; between tokens, which are names, is nothing")
    if unpaired := [name for name in spec.unpaired if name != "x"]:
        raise CallError(f"train.mix cannot mix '{unpaired[0]}', whose rows do not belong to the samples")
    if config.cutmix and not _sides(spec.x):
        raise CallError("train.mix.cutmix cuts along axes of space or time, and these samples have none")
    return Mixer(config, spec, seed)
