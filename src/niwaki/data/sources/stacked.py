"""Three handwritten digits as the channels of one RGB image: a thousand modes to reach.

After stacked MNIST (Metz, Poole, Pfau & Sohl-Dickstein, "Unrolled generative adversarial networks", ICLR
2017, Section 3.3.1), of scikit-learn's digits. A digit belongs to one split, and so do all stacks that it is
part of.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import DataSpec, Levels, ValueSpec
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.sources.digits import digits_by_split
from niwaki.data.splitting import SPLITS, choose, shares

__all__ = ["CHANNELS", "StackedOptions", "stacked"]

CHANNELS = ("red", "green", "blue")


class StackedOptions(Options):
    """Settings of `stacked-digits`.

    samples: stacks over all three splits
    """

    samples: int = Field(default=40_000, ge=3000, le=1_000_000)


def _modes(n: int, kinds: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of modes `(n,)` int64 in random order, each as often as any other (or once more)."""
    return rng.permutation(np.arange(n, dtype=np.int64) % kinds)


@register("stacked-digits", StackedOptions)
def stacked(config: DataConfig, options: StackedOptions, progress: Progress | None) -> Pool:
    """Images `(samples, 3, 8, 8)` with levels 0 … 16. `class` is the mode, 0 … 999: its three figures are the
    digits in the red, the green and the blue channel, which are columns of their own too (`red`, `green`,
    `blue`). Within a split all modes are equally frequent."""
    single, members = digits_by_split(config, progress)
    assert single.y is not None
    y, kinds = single.y.numpy(), single.spec.classes
    names = single.spec.class_names
    images: list[Tensor] = []
    modes: list[np.ndarray] = []
    counts = shares(options.samples, config.fractions)
    for split, count in enumerate(counts):
        rng = np.random.default_rng([config.seed, split, 0x57AC])
        mode = _modes(count, kinds ** len(CHANNELS), rng)
        parts = np.stack(np.unravel_index(mode, (kinds,) * len(CHANNELS)), 1)  # (count, 3)
        chosen = members[split][choose(y[members[split]], parts, rng)]
        images.append(single.x[torch.from_numpy(chosen)][:, :, 0])
        modes.append(mode)
    mode = np.concatenate(modes)
    parts = np.stack(np.unravel_index(mode, (kinds,) * len(CHANNELS)), 1)
    x = ValueSpec("image", (len(CHANNELS), 8, 8), None, Levels(single.spec.levels), names=CHANNELS)
    triples = tuple(f"{number:0{len(CHANNELS)}d}" for number in range(kinds ** len(CHANNELS)))
    label = ValueSpec.label(kinds, tuple(names))
    return Pool(
        "stacked-digits",
        DataSpec({"x": x, "class": ValueSpec.label(len(triples), triples)}),
        torch.cat(images),
        torch.from_numpy(mode),
        columns={
            name: Column(label, torch.from_numpy(np.ascontiguousarray(parts[:, k])))
            for k, name in enumerate(CHANNELS)
        },
        assignment=np.repeat(np.arange(len(SPLITS)), counts),
    )
