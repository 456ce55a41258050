"""Views of what the verbs return, in the words of the report and of the command line's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.errors import NiwakiError
from niwaki.evaluation.measures import measures as known_metrics
from niwaki.modalities import modality_of
from niwaki.report.gains import headline, lead, other_verdicts
from niwaki.report.pictures import spread
from niwaki.report.record import RunRecord, measures, read_run
from niwaki.report.run_table import run_table, value_text
from niwaki.report.sections import figure_rows
from niwaki.report.verdict_words import badge_text, tone_of
from niwaki.report.words import interval_text, metric_words, number_text, seconds_text
from niwaki.workflow.notebook.html import block, grey, media_strip, table, title
from niwaki_runtime.specs import ValueSpec

__all__ = ["comparison_view", "evaluation_view", "run_view", "runs_view", "samples_view"]

_SHOWN = 20
"""Samples; or as many classes as there are, up to this."""
_TEXTS = 3
_SIDES = ("trained", "bundle", "samples")


def run_view(path: Path) -> str:
    """A run: before and after, its verdicts, some samples, where its report lies."""
    try:
        return _run(read_run(path))
    except NiwakiError as error:  # nothing is there yet, or a file is broken
        return block([title(path.name, str(path)), grey(str(error))])


def runs_view(found: Mapping[str, Any]) -> str:
    """A line per run, and what tells their recipes apart."""
    titles, rows = run_table(found["runs"])
    parts = [title(f"{len(rows)} runs", ""), table(titles, rows)]
    settings = found["settings"]
    if settings["values"]:
        names = [Path(path).name for path in settings["runs"]]
        cells = [(key, *map(value_text, values)) for key, values in settings["values"].items()]
        parts.append(table(("setting", *names), cells))
    return block(parts)


def _run(record: RunRecord) -> str:
    path = record.path
    parts = [title(record.name, str(path)), _failure(record), escape(" ".join(lead(record))), _gains(record)]
    spoken = [*record.comparison.values(), *(verdict for _, _, verdict in other_verdicts(record))]
    parts += [escape(str(v["text"])) for v in spoken if isinstance(v, Mapping) and v.get("outcome")]
    side = "after" if "after" in record.samples else "before"
    if side in record.samples and record.spec is not None:
        labels = record.samples.get("labels")
        named = None if labels is None else [record.class_name(int(label)) for label in labels]
        parts.append(_pictures(record.samples[side], record.spec.x, named, labels, record.files))
    done = [
        f"{name} {seconds_text(state['seconds'])}"
        for name, state in record.stages.items()
        if state.get("status") == "done" and state.get("seconds") is not None
    ]
    parts.append(grey(", ".join(done) or "nothing is done yet"))
    page = path / "report.html"
    if page.is_file():
        parts.append(grey(f"report: {page}"))
    return block(parts)


def _failure(record: RunRecord) -> str:
    failure = record.failure
    return escape(f"The stage '{failure['stage']}' failed: {failure['error']}") if failure else ""


def _gains(record: RunRecord) -> str:
    after = record.measured.get("after")
    if not after:
        return ""
    rows = headline(record)
    header = ("", "before: torch, float32", f"after: bundle, {after['engine']}", "")
    cells = [(row.label, row.before, row.after, row.change) for row in rows]
    return table(header, cells, [row.tone for row in rows])


def evaluation_view(found: Mapping[str, Any]) -> str:
    """Every metric beside what real samples score in its place, and the figures of all other judges."""
    parts = []
    for side in _SIDES:
        if found.get(side):
            parts += [title({"trained": "trained model"}.get(side, side)), _metrics(found[side])]
    parts += [_section(section) for section in found.get("sections") or ()]
    parts += [grey(str(finding.get("text", ""))) for finding in found.get("audit") or ()]
    parts.append(grey(f"{found['n']:,} samples against the test split"))
    return block(parts)


def _metrics(tree: Mapping[str, Any]) -> str:
    rows = []
    for measure in measures(tree):
        if measure.by_class:
            continue
        words, row = metric_words(measure.metric), known_metrics().get(measure.metric)
        interval, floor = measure.record.get("interval"), measure.record.get("floor")
        rows.append(
            (
                words.title,
                "" if measure.where == "copies" else measure.where,
                number_text(measure.value),
                interval_text(*interval) if interval and None not in interval else "",
                "–" if floor is None else number_text(floor),
                words.better or (row.better if row else ""),
            )
        )
    return table(("", "features", "value", "interval", "real data", "better"), rows)


def _section(section: Mapping[str, Any], later: Mapping[str, Any] | None = None) -> str:
    """The figures of a judge that have no table of their own."""
    if section["judge"] == "samples":
        return ""
    sides = ("value",) if later is None else ("before", "after")
    rows = [
        (
            row["name"],
            *(row[side] for side in ("before", "after")[: len(sides)]),
            row["before_interval"],
            f"{row['reference']} {row['reference_name']}".strip(),
            row["better"],
        )
        for row in figure_rows(section, later)
    ]
    notes = [grey(str(note)) for note in section.get("notes") or ()]
    header = ("", *sides, "interval", "held against", "better")
    return block([title(section["title"]), table(header, rows), *notes])


def comparison_view(found: Mapping[str, Any]) -> str:
    """The verdicts on two sides, and the figures of the judges that gave them."""
    verdicts = {axis: v for axis, v in found["verdict"].items() if axis in ("fidelity", "diversity")}
    tested = [(axis, v) for axis, v in verdicts.items() if v.get("delta") is not None]
    rows = [
        (
            axis,
            number_text(v["before"]),
            number_text(v["after"]),
            number_text(v["delta"]),
            interval_text(*v["interval"]),
            number_text(v["margin"]),
            badge_text(v),
        )
        for axis, v in tested
    ]
    header = ("verdict", "before", "after", "Δ", "interval", "margin", "")
    parts = [table(header, rows, [tone_of(v) for _, v in tested])]
    parts += [escape(str(v["text"])) for v in verdicts.values() if v.get("text")]
    later = {section["judge"]: section for section in found["sections"]["after"]}
    parts += [_section(section, later.get(section["judge"])) for section in found["sections"]["before"]]
    how = "pairs of samples" if found["paired"] else "samples without common seeds, compared as two sets"
    parts.append(grey(f"{found['n']:,} {how}, against the test split"))
    return block(parts)


def samples_view(
    x: np.ndarray,
    spec: ValueSpec,
    labels: Sequence[int] | np.ndarray | None = None,
    names: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    more: str = "",
) -> str:
    """Some samples; labels: class of each, called `names` where they have any."""
    named = None
    if labels is not None:
        named = [names[int(i)] if 0 <= int(i) < len(names) else str(int(i)) for i in labels]
    shape = "×".join(map(str, spec.shape)) or "one number"
    heading = title(f"{len(x):,} samples", f"{spec.modality} {shape}{more}")
    return block([heading, _pictures(x, spec, named, None if labels is None else np.asarray(labels), files)])


def _pictures(
    x: np.ndarray,
    spec: ValueSpec,
    named: Sequence[str] | None,
    labels: np.ndarray | None,
    files: Mapping[str, str] | None,
) -> str:
    modality = modality_of(spec)
    most = _SHOWN if modality.draws(spec) else _TEXTS
    chosen = spread(labels, len(x), most)
    return media_strip((modality.show(x[i], spec, files), named[i] if named else "") for i in chosen)
