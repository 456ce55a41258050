"""How many samples a search can afford: one of a diffusion costs as many passes as its sampler takes, and of
the model itself they are made three times, for the verdict, for the choices and for the last word before it.
What is judged by real items that it reads, as models of text are, reads them anew for every candidate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from niwaki.core.contract import NiwakiError
from niwaki.workflow.searching.rehearsal import CHECKED, Rehearsal

__all__ = ["FRESH", "Afforded", "afford", "affordable"]

_VERDICT_LEAST = 400
"""Pairs that a verdict rests on at least."""
_MOST_N = 2000
"""Samples that a choice rests on at most; where they are cheap, as many as are judged in a second."""
_VERDICT, _TRIED, FRESH = 0.12, 0.06, 0.08
"""Shares of the whole time in which the model makes its samples: for the verdict, for the choices, for the
last word before it."""
_READ = 0.005
"""The same, in which a candidate reads the items that it is judged by."""
_CHECKED, _CHECK = 4, 1.0
"""Samples that are made after every step of a plan at least, and seconds of them."""
_MORE = 3
"""Times as many fresh samples as the choices rest on."""


@dataclass(frozen=True)
class Afforded:
    """each:    seconds of a sample of the model, in large batches
    judged:  seconds of an item that it is judged by: of a sample, or of a real one that it reads
    least:   items that a choice rests on at least
    verdict: pairs that it rests on
    most:    samples at most that a choice rests on, by the time that they take
    fresh:   at most, on which the last candidates are judged again; where these are fewer than choices rest
             on, bundles are judged on the samples that the model has made already
    """

    each: float
    judged: float
    least: int
    verdict: int
    most: int
    fresh: int

    @property
    def checked(self) -> int:
        """Samples that are made after every step of a plan: about a second of them, a few at least."""
        return int(min(CHECKED, max(_CHECKED, _CHECK / max(self.each, 1e-9))))

    def few(self, n: int) -> int:
        """Fresh samples where choices rest on n."""
        return max(n, min(_MORE * n, self.fresh))

    def renews(self, n: int) -> bool:
        """Whether there is time for fresh ones at all, where choices rest on n."""
        return self.fresh >= n


def afford(each: float, asked: int, seconds: float, *, least: int, reading: float | None = None) -> Afforded:
    """each: seconds of a sample; asked: pairs that the verdict should rest on; seconds: of all
    least: items that a choice rests on at least; reading: seconds of a real item, where such are judged by"""
    judged = each if reading is None else reading

    def within(share: float) -> int:
        return int(share * seconds / max(judged, 1e-9)) // 10 * 10

    verdict = min(asked, max(_VERDICT_LEAST, within(_VERDICT)))
    tried = within(_TRIED if reading is None else _READ)
    return Afforded(each, judged, least, verdict, max(least, tried), within(FRESH))


def affordable(rehearsal: Rehearsal, least: int, most: int = _MOST_N) -> int:
    """How many samples are judged in about a second, or where these are dear `most`; more where both
    axes have no margin with fewer.

    least, most: samples; most of them can be made in the time that is given
    Raises NiwakiError where an axis has none with the most: no plan could be shown to lose nothing on it.
    """
    n = min(most, _MOST_N) if most < _MOST_N else _judged_in_a_second(rehearsal, least)
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


def _judged_in_a_second(rehearsal: Rehearsal, least: int) -> int:
    rehearsal.losses(rehearsal.before, n=least)  # margins, and what the judges see of the model
    began = time.monotonic()
    rehearsal.losses(rehearsal.before, n=least)
    took = max(time.monotonic() - began, 1e-3)
    return int(min(max(least, round(least / took, -2)), _MOST_N))
