"""1797 handwritten digits of 43 people, 8×8 pixels with 17 grey levels, that scikit-learn carries on board.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import torch

from niwaki.core.contract import DataSpec
from niwaki.data.config import DataConfig, Options, Pool, Progress, register

__all__ = ["digits"]


@register("digits")
def digits(config: DataConfig, options: Options, progress: Progress | None) -> Pool:
    """Images `(1797, 1, 8, 8)` with levels 0 … 16 and their ten classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.images.astype("uint8")).unsqueeze(1)
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=10, class_names=tuple("0123456789"))
    return Pool("digits", spec, x, torch.from_numpy(found.target.astype("int64")))
