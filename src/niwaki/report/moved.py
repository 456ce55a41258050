"""What fell and what rose: figures whose 95 % intervals before and after have nothing in common.

A verdict speaks of one statistic for each axis. Whatever else moved so far that chance does not explain it is
named beside it, in both directions, whether or not the verdict passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from niwaki.report.record import RunRecord, measures
from niwaki.report.trust import trusted
from niwaki.report.words import metric_words, number_text

__all__ = ["Moved", "moved_figures", "moved_metrics", "moved_of", "moved_texts"]

MOST = 6
"""As many are named in each direction."""


@dataclass(frozen=True)
class Moved:
    """A figure that changed by more than chance: where it was measured, and whether more of it is better."""

    title: str
    where: str
    before: float
    after: float
    more_is_better: bool

    @property
    def better(self) -> bool:
        return (self.after > self.before) == self.more_is_better

    @property
    def text(self) -> str:
        way = "rose" if self.after > self.before else "fell"
        where = f" in ‘{self.where}’" if self.where else ""
        return f"{self.title}{where} {way}: {number_text(self.before)} → {number_text(self.after)}"


def moved_of(record: RunRecord) -> list[Moved]:
    """Of a run: metrics that are to be trusted, and the figures of every judge."""
    found = moved_metrics(
        record.evaluation.get("trained"),
        record.evaluation.get("bundle"),
        lambda extractor, metric: trusted(record, extractor, metric),
        [str(e.get("name")) for e in record.evaluation.get("extractors") or []],
    )
    return found + moved_figures(record.sections.get("before") or [], record.sections.get("after") or [])


def moved_metrics(
    before: Any,
    after: Any,
    trusted: Callable[[str, str], bool] = lambda extractor, metric: True,
    extractors: Iterable[str] = (),
) -> list[Moved]:
    """Metrics of two evaluations, but for those of single classes and those that are not to be trusted."""
    later, names = {m.path: m for m in measures(after)}, set(extractors)
    found = []
    for first in measures(before):
        second, words = later.get(first.path), metric_words(first.metric)
        if second is None or first.by_class or not words.better or not trusted(first.where, first.metric):
            continue
        if _apart(first.record, second.record):
            where = first.where if not names or first.where in names else ""
            found.append(_moved(words.title, where, first.record, second.record, words.better))
    return found


def moved_figures(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Moved]:
    """Figures of all judges but that of samples, whose figures are metrics."""
    later = {(s["judge"], f["name"]): f for s in after for f in s.get("figures", [])}
    found = []
    for section in before:
        for figure in section.get("figures", []):
            second = later.get((section["judge"], figure["name"]))
            if section["judge"] == "samples" or second is None or not _apart(figure, second):
                continue
            found.append(_moved(figure["name"], "", figure, second, figure.get("better", "lower")))
    return found


def moved_texts(found: Sequence[Moved]) -> dict[str, str]:
    """`worse` and `better`, each in a sentence; empty where nothing moved that way."""
    texts = {}
    for title, better in (("worse", False), ("better", True)):
        told = [m.text for m in found if m.better == better]
        more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
        if told:
            texts[title] = "; ".join(told[:MOST]) + more
    return texts


def _apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    intervals = first.get("interval"), second.get("interval")
    if any(not i or None in i for i in intervals) or None in (first.get("value"), second.get("value")):
        return False
    (low, high), (low_after, high_after) = intervals  # type: ignore[misc]
    return bool(high < low_after or high_after < low)


def _moved(title: str, where: str, first: Mapping[str, Any], second: Mapping[str, Any], better: str) -> Moved:
    return Moved(
        title[0].upper() + title[1:], where, float(first["value"]), float(second["value"]), better == "higher"
    )
