"""What `evaluate` and `compare` say: metrics beside what real data score, verdicts, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from niwaki.cli.findings import draw_findings
from niwaki.cli.table import draw_moved
from niwaki.evaluation.measures import measures as known_metrics
from niwaki.report.moved import Moved, moved_figures, moved_metrics
from niwaki.report.record import Measure, measures
from niwaki.report.sections import figure_rows
from niwaki.report.verdict_words import badge_text, statistic_name, tone_of, value_texts
from niwaki.report.words import interval_text, metric_words, number_text

__all__ = ["draw_comparison", "draw_evaluation", "draw_sections"]

_TONES = {"good": "bold green", "bad": "bold red", "open": "bold yellow"}
_TITLES = {"trained": "trained model", "bundle": "bundle", "samples": "samples"}
_AXES = ("both", "fidelity", "diversity", "memory", "")
_ABOUT = {"both": "fidelity and diversity", "memory": "memorisation", "": "other"}
_SHOWN = 6
"""Rows of what was found; the rest is counted."""


def draw_sections(console: Console, before: list[Any], after: list[Any] | None = None) -> None:
    """What every judge says whose figures have no table of their own, and the first thing that it shows."""
    later = {s["judge"]: s for s in after or []}
    for section in before:
        if section["judge"] == "samples":
            continue
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column(escape(section["title"]), header_style="bold")
        titles = ("trained model", "bundle") if section["judge"] in later else ("value",)
        for title in titles:
            table.add_column(title, justify="right")
        for title in ("interval", "held against", "better"):
            table.add_column(title)
        for row in figure_rows(section, later.get(section["judge"])):
            values = [f"[bold]{row['before']}[/]", row["after"]][: len(titles)]
            held = f"{row['reference']} {escape(row['reference_name'])}".strip()
            table.add_row(
                escape(row["name"]), *values, f"[dim]{row['before_interval']}[/]", held, row["better"]
            )
        console.print()
        console.print(table)
        for note in section.get("notes") or ():
            console.print(f"[dim]{escape(note)}[/]")
        for shown in list((section.get("details") or {}).get("exhibits") or ())[:1]:
            for media in shown["media"]:
                if media["kind"] == "text":
                    console.print()
                    console.print(f"[dim]{escape(shown['caption'])}[/]")
                    console.print(media["data"][:600], markup=False, highlight=False)


def draw_evaluation(console: Console, found: Mapping[str, Any]) -> None:
    """Every metric beside what real samples score in its place; then what was found beside the numbers."""
    for side, title in _TITLES.items():
        if not found.get(side):
            continue
        _metrics(console, {title: found[side]}, found)
        for line in _found(found, side):
            console.print(line)
    draw_sections(console, list(found.get("sections") or ()))
    _extractors(console, found)
    draw_findings(console, found.get("audit") or (), "data")
    source = found.get("source")
    if source:
        _broken(console, source)
    told = f"{found['n']:,} samples"
    if not source or source["seed"] is not None:
        told += f" of seed {source['seed'] if source else found['seed']}"
    if source:
        told += f" from {source['path']}"
    console.print(f"[dim]{escape(told)} against the test split[/]")


def draw_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Both sides' metrics in one table, then the verdicts."""
    sources = found["sources"]
    titles = _titles([sources[side]["path"] for side in ("before", "after")])
    if found["before"] and found["after"]:
        _metrics(console, dict(zip(titles, (found["before"], found["after"]), strict=True)), found)
    draw_sections(console, list(found["sections"]["before"]), list(found["sections"]["after"]))
    console.print()
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("verdict", header_style="bold")
    left = ("tested by", "", "interval")
    for column in (*left[:2], titles[0], titles[1], "loss", "interval", "margin"):
        table.add_column(escape(column), justify="left" if column in left else "right")
    verdicts = {axis: v for axis, v in found["verdict"].items() if axis in ("fidelity", "diversity")}
    for axis, v in verdicts.items():
        table.add_row(
            axis,
            f"[dim]{escape(statistic_name(v))}[/]",
            f"[{_TONES[tone_of(v)]}]{badge_text(v)}[/]",
            *value_texts(v),
            f"[bold]{number_text(v.get('delta'))}[/]",
            f"[dim]{interval_text(*v['interval']) if v.get('interval') else ''}[/]",
            number_text(v.get("margin")),
        )
    console.print(table)
    console.print()
    for v in verdicts.values():
        console.print(escape(v["text"]))
    draw_moved(console, _moved(found))
    common = found["comparison"].get("common") or {}
    if common.get("found"):
        console.print(escape(common["text"]))
    for side, title in zip(("before", "after"), titles, strict=True):
        lines = _found(found, side)
        if lines:
            console.print(f"[bold]{escape(title)}[/]")
        for line in lines:
            console.print(f"  {line}")
    _extractors(console, found)
    for source in sources.values():
        _broken(console, source)
    if found["paired"]:
        told = f"{found['n']:,} pairs of samples of seed {sources['before']['seed']}"
    else:
        sizes = " and ".join(f"{source['n']:,}" for source in sources.values())
        told = f"{sizes} samples without common seeds, compared as two sets"
    console.print(f"[dim]{told}, against the test split[/]")


def _moved(found: Mapping[str, Any]) -> list[Moved]:
    """What fell and what rose; nothing that is grey in the table."""
    metrics = moved_metrics(
        found["before"], found["after"], lambda extractor, metric: not _style((extractor, metric), found)
    )
    return metrics + moved_figures(found["sections"]["before"], found["sections"]["after"])


def _titles(paths: Sequence[str]) -> list[str]:
    """Short names of two paths; longer ones where the short ones are alike."""
    names = [Path(p).name for p in paths]
    if names[0] == names[1]:
        names = [str(p) for p in paths]
    return names if names[0] != names[1] else ["A", "B"]


def _metrics(console: Console, sides: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    """One row per metric and features, grouped by axis; grey where the features are unfit for it."""
    one = len(sides) == 1
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("" if not one else escape(next(iter(sides))), header_style="bold")
    table.add_column("features")
    for title in ("value",) if one else sides:
        table.add_column(escape(title), justify="right")
    if one:
        table.add_column("interval")
    table.add_column("real data", justify="right")
    table.add_column("better")
    by_path = [{m.path: m for m in measures(tree)} for tree in sides.values()]
    rows = [
        (path, [side.get(path) for side in by_path])
        for path in dict.fromkeys(m.path for side in by_path for m in side.values() if not m.by_class)
    ]
    grouped = {axis: [row for row in rows if _axis(row[0][-1]) == axis] for axis in _AXES}
    for axis, members in grouped.items():
        if members:
            table.add_row(f"[dim]{_ABOUT.get(axis, axis)}[/]")
        order = list(dict.fromkeys(path[-1] for path, _ in members))
        members.sort(key=lambda row: order.index(row[0][-1]))
        above = ""
        for path, cells in members:
            table.add_row(*_row(path, cells, above, one), style=_style(path, found))
            above = path[-1]
    console.print()
    console.print(table)
    console.print()
    for tree in sides.values():
        for extractor, reasons in (tree.get("left_out") or {}).items():
            for metric, reason in reasons.items():
                title = metric_words(metric).title
                console.print(f"[yellow]·[/] {title} in '{escape(extractor)}' is left out: {escape(reason)}")


def _row(path: tuple[str, ...], cells: Sequence[Measure | None], above: str, one: bool) -> list[str]:
    name, shown = path[-1], next(c for c in cells if c)
    words, row = metric_words(name), known_metrics().get(name)
    values = [f"[bold]{number_text(c.value)}[/]" if c else "–" for c in cells]
    if one:
        interval = shown.record.get("interval")
        told = interval_text(*interval) if interval and None not in interval else ""
        values.append(f"[dim]{told}[/]")
    floor = shown.record.get("floor")
    return [
        "" if name == above else f"  {words.title}",
        "" if shown.where == "copies" else escape(shown.where),
        *values,
        "–" if floor is None else number_text(floor),
        words.better or (row.better if row else ""),
    ]


def _axis(metric: str) -> str:
    row = known_metrics().get(metric)
    axis = row.axis if row else metric_words(metric).axis
    return axis if axis in _AXES else ""


def _style(path: tuple[str, ...], found: Mapping[str, Any]) -> str:
    """Grey for numbers of an extractor that failed its ladders, and for metrics not to be trusted in it."""
    fit = (found.get("fitness") or {}).get(path[-2] if len(path) > 1 else "") or {}
    grey = fit.get("fit") is False or path[-1] in (fit.get("distrusted") or {})
    return "bright_black" if grey else ""


def _extractors(console: Console, found: Mapping[str, Any]) -> None:
    """What is grey, and why."""
    shown = {m.metric for side in (*_TITLES, "before", "after") for m in measures(found.get(side))}
    for name, fit in (found.get("fitness") or {}).items():
        distrusted = {m: on for m, on in (fit.get("distrusted") or {}).items() if m in shown}
        if fit.get("fit") is False:
            console.print(f"[yellow]·[/] {escape(fit['text'])} [dim]Its numbers are grey.[/]")
        elif distrusted:
            told = ", ".join(f"{metric_words(m).title} ({', '.join(on)})" for m, on in distrusted.items())
            console.print(f"[yellow]·[/] grey, because '{escape(name)}' is no judge of it: {escape(told)}")


def _broken(console: Console, source: Mapping[str, Any]) -> None:
    files = source["broken"]
    if files:
        told = "1 file is broken and was" if len(files) == 1 else f"{len(files)} files are broken and were"
        console.print(f"[red]✗[/] {told} set aside:")
    for file in files[:_SHOWN]:
        console.print(f"    {escape(file['file'])}: [dim]{escape(file['reason'])}[/]")
    if len(files) > _SHOWN:
        console.print(f"    [dim]and {len(files) - _SHOWN} more (--json names all)[/]")
    for remark in source.get("remarks") or ():
        console.print(f"[dim]·[/] {escape(remark)}")


def _found(found: Mapping[str, Any], side: str) -> list[str]:
    """Lost modes, shifted attributes and the gate, in a line each."""
    lines: list[str] = []
    clusters = (found.get("clusters") or {}).get(side) or {}
    lost = [c for i in clusters.get("dropped", ()) for c in clusters["clusters"] if c["index"] == i]
    if lost:
        told = _some(
            f"{c['name']}: {c['generated']} made, {c['expected']:.1%} of the real ones" for c in lost
        )
        lines.append(f"[red]✗[/] lost or nearly lost: {told}")
    bias = (found.get("bias") or {}).get(side) or {}
    shifts = [s for s in bias.get("shifts", ()) if s["clear"]]
    if shifts:
        told = _some(f"{s['attribute']} {s['name']} {s['real']:.1%} → {s['generated']:.1%}" for s in shifts)
        lines.append(f"[yellow]·[/] made too often or too rarely: {told}")
    gate = (found.get("gate") or {}).get(side) or {}
    if gate.get("text"):
        mark = "[green]✓[/]" if gate["passed"] else "[red]✗[/]"
        lines.append(f"{mark} memorisation: {escape(gate['text'])}")
    for part in ("clusters", "bias", "gate"):
        reason = ((found.get(part) or {}).get(side) or {}).get("left_out")
        if reason:
            lines.append(f"[yellow]·[/] {part} left out: {escape(reason)}")
    return lines


def _some(parts: Iterable[str]) -> str:
    told = [escape(part) for part in parts]
    more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return ", ".join(told[:_SHOWN]) + more
