"""How many samples a search can afford: one of a diffusion costs as many passes as its sampler takes, and of
the model itself they are made three times, for the verdict, for the choices and for the last word before it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from niwaki.core.contract import NiwakiError
from niwaki.workflow.searching.rehearsal import Rehearsal

__all__ = ["FRESH", "LEAST", "Afforded", "afford", "affordable"]

LEAST = 400
"""Samples that any choice and the verdict rest on: with fewer, diversity mostly has no margin
(`niwaki.evaluation.equivalence.margins`)."""
_N, _MOST_N = LEAST, 2000
"""Samples that a choice rests on where they are cheap: as many as are judged in a second."""
_VERDICT, _TRIED, FRESH = 0.12, 0.06, 0.08
"""Shares of the whole time in which the model makes its samples: for the verdict, for the choices, for the
last word before it."""
_MORE = 3
"""Times as many fresh samples as the choices rest on."""


@dataclass(frozen=True)
class Afforded:
    """each:    seconds of a sample of the model, in large batches
    verdict: pairs that it rests on
    most:    samples at most that a choice rests on, by the time that they take
    fresh:   at most, on which the last candidates are judged again; where these are fewer than choices rest
             on, bundles are judged on the samples that the model has made already
    """

    each: float
    verdict: int
    most: int
    fresh: int

    def few(self, n: int) -> int:
        """Fresh samples where choices rest on n."""
        return max(n, min(_MORE * n, self.fresh))

    def renews(self, n: int) -> bool:
        """Whether there is time for fresh ones at all, where choices rest on n."""
        return self.fresh >= n


def afford(each: float, asked: int, seconds: float) -> Afforded:
    """each: seconds of a sample; asked: pairs that the verdict should rest on; seconds: of all"""

    def within(share: float) -> int:
        return int(share * seconds / max(each, 1e-9)) // 10 * 10

    verdict = min(asked, max(LEAST, within(_VERDICT)))
    return Afforded(each, verdict, max(LEAST, within(_TRIED)), within(FRESH))


def affordable(rehearsal: Rehearsal, most: int = _MOST_N) -> int:
    """How many samples are judged in about a second, or where these are dear `most`; more where both
    axes have no margin with fewer.

    most: that can be made in the time that is given, `LEAST` at least
    Raises NiwakiError where an axis has none with the most: no plan could be shown to lose nothing on it.
    """
    n = min(most, _MOST_N) if most < _MOST_N else _judged_in_a_second(rehearsal)
    while True:
        rehearsal.losses(rehearsal.before, n=n)
        if not rehearsal.unmeasured:
            return n
        if n >= _MOST_N:
            raise NiwakiError(
                f"no margin of {' and '.join(rehearsal.unmeasured)} can be measured on {n:,} samples of the "
                f"model and {len(rehearsal.dataset.test)} real ones (validation, filled up with training "
                "samples), so that no plan could be shown to lose nothing: train the model longer, or give "
                "more data"
            )
        n = min(2 * n, _MOST_N)


def _judged_in_a_second(rehearsal: Rehearsal) -> int:
    rehearsal.losses(rehearsal.before, n=_N)  # margins, and what the judges see of the model
    began = time.monotonic()
    rehearsal.losses(rehearsal.before, n=_N)
    took = max(time.monotonic() - began, 1e-3)
    return int(min(max(_N, round(_N / took, -2)), _MOST_N))
