"""How varied generated tokens are, and how much of them stands in the training data, beside as many real
windows."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.judges.base import Figure
from niwaki.evaluation.metrics.bleu import self_bleu
from niwaki.evaluation.metrics.memorised_spans import memorised_spans
from niwaki.evaluation.metrics.ngrams import distinct_n, repetition
from niwaki.evaluation.statistics.result import Result

__all__ = ["memorised", "varied", "variety"]

_ORDER = 4
_WORDS = {
    "distinct_1": ("different tokens of samples / all", "higher"),
    "distinct_2": ("different pairs of tokens of samples / all", "higher"),
    "repetition_4": ("share of 4-grams that a sample had before", "lower"),
    "self_bleu_4": ("self-BLEU of samples", "lower"),
}


def variety(samples: np.ndarray) -> dict[str, Result]:
    """Figures of tokens (samples, length) by name, as far as samples are long enough."""
    length = samples.shape[1]
    found = {f"distinct_{k}": distinct_n(samples, n=k) for k in (1, 2) if k <= length}
    if length >= _ORDER:
        found |= {"repetition_4": repetition(samples, n=_ORDER), "self_bleu_4": self_bleu(samples)}
    return found


def varied(samples: np.ndarray, real: np.ndarray) -> list[Figure]:
    """The same as figures, beside as many real windows."""
    if min(len(samples), len(real)) < 2:
        return []
    found, truth = variety(samples[: len(real)]), variety(real[: len(samples)])
    return [
        Figure(
            _WORDS[k][0],
            r.value,
            r.interval,
            "diversity",
            _WORDS[k][1],
            truth[k].value,
            "as many real windows",
        )
        for k, r in found.items()
    ]


def memorised(samples: np.ndarray, real: np.ndarray, train: np.ndarray) -> Figure:
    """The longest passages of samples that stand in the training data."""
    found, truth = memorised_spans(samples, train), memorised_spans(real, train)
    name = "tokens of a sample's longest passage that stands in the training data"
    return Figure(name, found.value, found.interval, "memory", "lower", truth.value, "as many real windows")
