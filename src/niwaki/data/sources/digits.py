"""1797 handwritten digits of 43 people, 8×8 pixels with 17 grey levels, that scikit-learn carries on board.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.splitting import SPLITS, by_hash, hash_samples

__all__ = ["digits", "digits_by_split"]


@register("digits")
def digits(config: DataConfig, options: Options, progress: Progress | None) -> Pool:
    """Images `(1797, 1, 8, 8)` with levels 0 … 16 and their ten classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.images.astype("uint8")).unsqueeze(1)
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=10, class_names=tuple("0123456789"))
    return Pool("digits", spec, x, torch.from_numpy(found.target.astype("int64")))


def digits_by_split(config: DataConfig, progress: Progress | None) -> tuple[Pool, list[np.ndarray]]:
    """The digits, and the positions of those of each split: what is made of them keeps their division.

    Raises CallError where a split does not hold every digit.
    """
    single = digits(config, Options(), progress)
    assert single.y is not None
    owner = by_hash(hash_samples(single.x), config.fractions, config.seed)
    members = [np.flatnonzero(owner == split) for split in range(len(SPLITS))]
    for split, found in enumerate(members):
        if len(np.unique(single.y.numpy()[found])) < single.spec.classes:
            raise CallError(
                f"the share {config.fractions[split]:g} of {len(owner)} digits is too small for the split "
                f"'{SPLITS[split]}': it does not hold every digit; change data.fractions"
            )
    return single, members
