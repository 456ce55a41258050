"""RGB crops of the two photographs that scikit-learn carries on board: a temple in China and a flower.

The photographs are tiled into cells, every cell belongs to one split, and a crop is taken only where all its
pixels belong to the same split: no pixel is shared between splits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from niwaki.core.contract import CallError, DataSpec
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.splitting import shares

__all__ = ["PatchesOptions", "patches", "regions"]


_SMALLER = "choose a smaller data.size or data.cell"


class PatchesOptions(Options):
    """Settings of `patches`.

    size:   height and width of a crop in pixels
    stride: pixels between neighbouring crops
    cell:   edge of the cells that are dealt to the splits, in crops
    """

    size: int = Field(default=32, ge=4, le=128)
    stride: int = Field(default=4, ge=1, le=128)
    cell: int = Field(default=2, ge=1, le=8)


def regions(
    height: int, width: int, cell: int, fractions: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """Number of the split that owns each pixel `(height, width)` int64: square cells, dealt out at random."""
    rows, columns = -(-height // cell), -(-width // cell)
    if rows * columns < len(fractions):
        raise CallError(f"regions of {cell} pixels are too large for {len(fractions)} splits; {_SMALLER}")
    owners = np.repeat(np.arange(len(fractions)), shares(rows * columns, fractions))
    owners = owners[np.argsort(rng.random(len(owners)), kind="stable")]
    return np.kron(owners.reshape(rows, columns), np.ones((cell, cell), dtype=np.int64))[:height, :width]


@register("patches", PatchesOptions)
def patches(config: DataConfig, options: PatchesOptions, progress: Progress | None) -> Pool:
    """Crops `(n, 3, size, size)` with 256 levels; the class is the photograph.

    Raises CallError where the crops are too large for every split to hold one.
    """
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    size, stride = options.size, options.stride
    rng = np.random.default_rng([config.seed, 0x9A7C])
    crops, labels, owners = [], [], []
    for label, photo in enumerate(found.images):
        owner = regions(photo.shape[0], photo.shape[1], size * options.cell, config.fractions, rng)
        # cells are no smaller than crops: a crop meets four of them at most, one at each of its corners
        corners = sliding_window_view(owner, (size, size))[::stride, ::stride, :: size - 1, :: size - 1]
        whole = corners.min((2, 3)) == corners.max((2, 3))
        pixels = sliding_window_view(photo, (size, size), axis=(0, 1))[
            ::stride, ::stride
        ]  # (rows, columns, C, h, w)
        crops.append(pixels[whole])
        owners.append(corners[whole][:, 0, 0])
        labels.append(np.full(int(whole.sum()), label, dtype=np.int64))
    assignment = np.concatenate(owners)
    if len(np.unique(assignment)) < 3:
        raise CallError(f"crops of {size} pixels do not fit into three regions; {_SMALLER}")
    names = tuple(str(f).replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0] for f in found.filenames)
    spec = DataSpec.of("image", (3, size, size), classes=len(names), class_names=names)
    x = torch.from_numpy(np.ascontiguousarray(np.concatenate(crops)))
    return Pool("patches", spec, x, torch.from_numpy(np.concatenate(labels)), assignment=assignment)
