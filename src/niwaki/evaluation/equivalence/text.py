"""Before against after for models of text: two verdicts on how the real text is predicted.

One flipped token ends the pairing of two samples, so samples are not compared. Instead both models read the
same windows of the test split, every token given the real ones before it (teacher forcing), and the windows
are the pairs. What is needed of a model is p, the probability of each real token.

* Fidelity: bits per byte, Σ −log₂ p over the bytes of a window: what the text would take to store with the
  model (Shannon 1948). A proper score, the lower the better: it answers to everything that makes the model
  predict worse, lost words included.
* Diversity: rarefied coverage, the mean of 1 − (1 − p)²⁰: the chance that the real next token is among 20
  that the model draws where it stands. A token that is never said again falls from its share to 0, one that
  is said a little less often keeps nearly all of it: noise in the probabilities leaves it as it is, lost
  words and narrowed choices (a lower temperature) do not. Nothing has to be drawn for it. Images are asked
  the same by rarefaction (`niwaki.evaluation.pairwise.neighbourhood.rarefied_coverage`).

Both are means over windows, so that their difference has the variance s²/n over windows; to it comes that of
the margin, which is measured on other windows. They speak of text like the test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.equivalence.margins import AXES, SHARE, Margin, given_margins
from niwaki.evaluation.equivalence.paired import Change, p_value_of, third_cumulant
from niwaki.evaluation.equivalence.verdict import Axis, Verdict, decide
from niwaki.evaluation.statistics.result import signature
from niwaki.evaluation.statistics.shares import holm

__all__ = [
    "DIVERSITY",
    "DRAWS",
    "FEWEST",
    "FIDELITY",
    "TextComparison",
    "bits",
    "compare_text",
    "mean_change",
    "rarefied_coverage_of_text",
]

DRAWS = 20
"""Tokens drawn for the rarefied coverage: one of a chance of 5 % is among them in two cases of three."""
FEWEST = 20
"""Windows below which an interval is no interval."""
SWAPS = 999

FIDELITY = Axis(
    "fidelity",
    "log-likelihood: log2 of the probability of the test text, per byte",
    "the test text took fewer bits per byte,",
    "the test text took more bits per byte,",
    f"saying {100 * SHARE:.0f} % of the tokens at random, by their frequency alone, would cost",
    "the model predicts the text no better than its frequencies of tokens do",
)
DIVERSITY = Axis(
    "diversity",
    f"rarefied coverage: chance that the real next token is among {DRAWS} that are drawn",
    "the share of real tokens that are reached rose",
    "the share of real tokens that are reached fell",
    f"never saying {100 * SHARE:.0f} % of the words of the text again would cost",
    "no set of tokens makes up about 5 % of the text",
)


@dataclass(frozen=True)
class TextComparison:
    """The two verdicts and their particulars.

    bits_per_byte: of the test text, `before` and `after`
    lost:    windows (positions among those that were given) that got most improbable, with the bits per byte
    figures: of the two models' own samples, where they were given: distinct n-grams, repetition
    n:       windows
    margins: by axis, with their noise
    """

    fidelity: Verdict
    diversity: Verdict
    bits_per_byte: dict[str, float]
    lost: list[dict[str, float]] = field(repr=False)
    figures: dict[str, Any] = field(repr=False)
    n: int
    seed: int
    signature: str
    margins: dict[str, Margin]

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "fidelity": self.fidelity.to_json(),
            "diversity": self.diversity.to_json(),
            "margins": {name: vars(margin) for name, margin in self.margins.items()},
            "paired": True,
        }


def compare_text(
    before: Any,
    after: Any,
    calibrated: Mapping[str, Margin],
    *,
    bytes_per_token: float = 1.0,
    margins: Mapping[str, float] | None = None,
    figures: Mapping[str, Any] | None = None,
    seed: int = 0,
    data: str = "",
    axes: tuple[Axis, Axis] | None = None,
) -> TextComparison:
    """Verdicts on fidelity and on diversity from the probabilities that two models give to the same text.

    before, after: log p of every token given the real ones before it, in nats, `(n, length)`: rows are
                   windows of the test split
    calibrated:    margins by axis, from `niwaki.evaluation.equivalence.text_margins.text_margins`
    bytes_per_token: of the text
    margins:       `fidelity` (bits per byte) and `diversity`, to use instead
    figures:       what else was found, to be kept beside the verdicts
    data:          what the text is, for the signature
    axes:          the words of both verdicts, where the tokens are not text
    Raises CallError for fewer than 20 windows, two shapes, NaN, probabilities above 1, unknown margins.
    """
    before, after = _checked(before, "before"), _checked(after, "after")
    if before.shape != after.shape:
        raise CallError(
            f"both models must read the same windows, not {before.shape} before and {after.shape} after"
        )
    n = len(before)
    margin = {**calibrated, **given_margins(margins)}
    swaps = np.random.default_rng([seed, 0x7478]).integers(0, 2, (SWAPS, n), dtype=np.int8).astype(bool)
    cost = bits(before, bytes_per_token), bits(after, bytes_per_token)
    changes = (
        mean_change(-cost[0], -cost[1], swaps, margin["fidelity"].noise),
        mean_change(
            rarefied_coverage_of_text(before),
            rarefied_coverage_of_text(after),
            swaps,
            margin["diversity"].noise,
        ),
    )
    text = signature(
        "paired-text", draws=DRAWS, share=SHARE, windows=n, length=before.shape[1], seed=seed, swaps=SWAPS,
        data=data or None,
    )  # fmt: skip
    adjusted, same = holm([c.p_value for c in changes]), np.array_equal(before, after)
    fidelity, diversity = (
        decide(
            axis, change, margin[name].value, n, p, ["text"], f"{text}|axis:{name}",
            noise=margin[name].noise, fewest=margin[name].fewest, identical=same,
        )
        for name, axis, change, p in zip(AXES, axes or (FIDELITY, DIVERSITY), changes, adjusted, strict=True)
    )  # fmt: skip
    rise = cost[1] - cost[0]
    worst = np.argsort(-rise, kind="stable")[:32]
    return TextComparison(
        fidelity=fidelity,
        diversity=diversity,
        bits_per_byte={"before": float(cost[0].mean()), "after": float(cost[1].mean())},
        lost=[{"window": int(i), "bits_per_byte": float(rise[i])} for i in worst if rise[i] > 0],
        figures=dict(figures or {}),
        n=n,
        seed=seed,
        signature=text,
        margins=margin,
    )


def bits(log_p: np.ndarray, bytes_per_token: float = 1.0) -> np.ndarray:
    """Bits per byte of each window `(n,)`, from log p in nats `(n, length)`."""
    return -log_p.mean(1) / (np.log(2.0) * bytes_per_token)


def rarefied_coverage_of_text(log_p: np.ndarray) -> np.ndarray:
    """1 − (1 − p)²⁰, the mean of each window `(n,)`."""
    with np.errstate(divide="ignore"):  # p = 1: log 0, and a coverage of 1
        return -np.expm1(DRAWS * np.log1p(-np.exp(log_p))).mean(1)


def mean_change(before: np.ndarray, after: np.ndarray, swaps: np.ndarray, noise: float = 0.0) -> Change:
    """Of a mean over pairs, more being better: `(n,)` each. swaps: pairs to exchange, bool (swaps, n).

    The delete-one jackknife of a mean: s²/n. The pairs are the real text, so no other variance of Δ is left.
    noise: standard error of the margin, whose windows are about as many as these: Δ − margin has both
           variances, and without this one 7 to 10 % at the margin were called wrong
    """
    difference, n = before - after, len(before)
    return Change(
        before=float(before.mean()),
        after=float(after.mean()),
        pair_variance=float(difference.var(ddof=1)) / n,
        real_variance=noise**2,
        third=third_cumulant(difference),
        p_value=p_value_of(float(difference.mean()), (1.0 - 2.0 * swaps) @ difference / n),
        parts=(float(difference.mean()),),
    )


def _checked(log_p: Any, role: str) -> np.ndarray:
    values = np.asarray(log_p, dtype=np.float64)
    if values.ndim != 2 or len(values) < FEWEST or not values.shape[1]:
        raise CallError(
            f"a verdict on text needs log p (windows, tokens) of at least {FEWEST} windows, "
            f"and those {role} are {values.shape}"
        )
    if not np.isfinite(values).all() or values.max() > 1e-6:
        raise CallError(f"the log-probabilities {role} must be finite and at most 0")
    return np.minimum(values, 0.0)
