"""How far the samples of a step's model are from those of the model before all steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import niwaki_runtime
from niwaki.compression.seeds import CHECK
from niwaki.core.contract import GenerativeModel, NiwakiError

__all__ = ["reference_samples", "sample_error"]

_CHECKED = 64


def reference_samples(model: GenerativeModel, condition: Any = None, n: int = _CHECKED) -> np.ndarray:
    """Samples `(n, …)` of the uncompressed model, which those of every step are compared with."""
    return model.sample(n, seed=CHECK, condition=condition).float().numpy()


def sample_error(
    reference: np.ndarray, model: GenerativeModel, bundle: Path | None, condition: Any = None
) -> float:
    """Mean |difference| of samples from the uncompressed model's, in the latter's standard deviations.

    The samples are the bundle's on its engine where there is a bundle. Raises NiwakiError where they are not
    finite.
    """
    n = len(reference)
    if bundle is None:
        made = model.sample(n, seed=CHECK, condition=condition).float().numpy()
    else:
        loaded = niwaki_runtime.load(bundle, precision="exact")
        made = loaded.sample(n, seed=CHECK, condition=condition)
    if not np.isfinite(made).all():
        raise NiwakiError("the step's model makes samples that are not finite")
    spread = float(reference.std()) or 1.0
    return float(np.abs(made.astype(np.float64) - reference).mean()) / spread
