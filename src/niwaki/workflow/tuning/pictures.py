"""Pictures of a study: which settings decide, objectives along each setting, the front of two of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from niwaki.core.store import write_bytes
from niwaki.recipe import RangeConfig
from niwaki.workflow.tuning.results import TuningRecord
from niwaki.workflow.tuning.study import Study

__all__ = ["draw_pictures"]

_INK, _SOFT, _BEST, _DEFAULT = "#1f2933", "#9aa5b1", "#0b7a53", "#b8500f"


def draw_pictures(study: Study, record: TuningRecord) -> list[str]:
    """Write `importance.png`, `slices.png` and, of two objectives, `front.png`; the names of those that there
    was something to draw for."""
    whole = [row for row in record.trials if row["state"] == "complete"]
    made = []
    if "left_out" not in record.importance:
        write_bytes(study.path / "importance.png", _importance(record))
        made.append("importance.png")
    if len(whole) > 1:
        write_bytes(study.path / "slices.png", _slices(study, record, whole))
        made.append("slices.png")
        if len(record.objectives) == 2:
            write_bytes(study.path / "front.png", _front(record, whole))
            made.append("front.png")
    return made


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # no pyplot: nothing of it is global

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK)


def _importance(record: TuningRecord) -> bytes:
    """Bars, a group for each setting."""
    names = list(record.importance)
    keys = sorted(record.importance[names[0]], key=lambda key: record.importance[names[0]][key])
    figure = _figure(5.2, 1.1 + 0.42 * len(keys))
    axes, high = figure.subplots(), 0.8 / len(names)
    for at, name in enumerate(names):
        where = np.arange(len(keys)) + (len(names) - 1 - 2 * at) * high / 2
        shares = [record.importance[name][key] for key in keys]
        axes.barh(where, shares, high, label=name, color=(_BEST, _DEFAULT)[at % 2])
        for y, share in zip(where, shares, strict=True):
            axes.text(share, y, f" {share:.0%}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(keys)), keys)
    axes.set_xlim(0, 1.12)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("share of what makes a trial one of the better ones (PED-ANOVA)", fontsize=8)
    if len(names) > 1:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    _tidy(axes)
    return _png(figure)


def _slices(study: Study, record: TuningRecord, whole: list[dict[str, Any]]) -> bytes:
    """A row for each objective, a column for each setting, a dot for each trial."""
    names, keys = [one["name"] for one in record.objectives], list(study.config.ranges)
    figure = _figure(2.6 * len(keys) + 0.6, 2.3 * len(names) + 0.4)
    grid = figure.subplots(len(names), len(keys), squeeze=False, sharey="row")
    for axes_row, name in zip(grid, names, strict=True):
        for axes, key in zip(axes_row, keys, strict=True):
            given = study.config.ranges[key]
            labels = None if isinstance(given, RangeConfig) else [str(value) for value in given]
            for row in whole:
                value = row["settings"][key]
                x = value if labels is None else labels.index(_shown(value, given))
                axes.plot(x, row["values"][name], **_dot(record, row))
            if labels is not None:
                axes.set_xticks(range(len(labels)), labels)
                axes.set_xlim(-0.5, len(labels) - 0.5)
            elif isinstance(given, RangeConfig) and given.log:
                axes.set_xscale("log")
            axes.set_xlabel(key, fontsize=9)
            _tidy(axes)
        axes_row[0].set_ylabel(name, fontsize=9)
    _legend(figure, record)
    return _png(figure)


def _shown(value: Any, given: Any) -> str:
    """The name of a choice, of which the record holds the JSON."""
    return next((str(one) for one in given if one == value or _list_of(one) == _list_of(value)), str(value))


def _list_of(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _front(record: TuningRecord, whole: list[dict[str, Any]]) -> bytes:
    first, second = record.objectives
    figure = _figure(4.4, 3.6)
    axes = figure.subplots()
    front = sorted(
        (row["values"][first["name"]], row["values"][second["name"]])
        for row in whole
        if row["number"] in record.front
    )
    axes.plot(*zip(*front, strict=True), color=_BEST, linewidth=1, zorder=1) if front else None
    for row in whole:
        x, y = row["values"][first["name"]], row["values"][second["name"]]
        axes.plot(x, y, **_dot(record, row))
        axes.annotate(str(row["number"]), (x, y), textcoords="offset points", xytext=(4, 3), fontsize=7)
    axes.set_xlabel(f"{first['name']} ({first['better']} is better)", fontsize=9)
    axes.set_ylabel(f"{second['name']} ({second['better']} is better)", fontsize=9)
    _tidy(axes)
    _legend(figure, record)
    return _png(figure)


def _dot(record: TuningRecord, row: dict[str, Any]) -> dict[str, Any]:
    number = row["number"]
    colour = _BEST if number == record.best else _DEFAULT if number == record.default else _SOFT
    style = {"marker": "o" if row["keeps"] else "x", "linestyle": "none", "markersize": 6, "color": colour}
    return {**style, "zorder": 3 if colour != _SOFT else 2}


def _legend(figure: Any, record: TuningRecord) -> None:
    from matplotlib.lines import Line2D

    marks = [("the best", _BEST, "o", record.best is not None),
             ("the recipe's own", _DEFAULT, "o", record.default is not None),
             ("misses a constraint", _SOFT, "x", any(not row["keeps"] for row in record.trials))]  # fmt: skip
    handles = [
        Line2D([], [], marker=m, color=c, linestyle="none", label=t) for t, c, m, there in marks if there
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8, frameon=False)
