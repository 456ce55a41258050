"""Runs: what there is, what tells them apart, and their courses in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.core.store import read_jsonl
from niwaki.report.run_curves import draw_courses
from niwaki.workflow.notebook.answers import Runs
from niwaki.workflow.runs.comparing import settings_that_differ
from niwaki.workflow.runs.listing import list_runs, sort_lines
from niwaki.workflow.runs.pipeline import write_pipeline

__all__ = ["runs"]


def runs(
    *folders: str | Path,
    sort: str = "created",
    plot: str | Path | None = None,
    figures: Sequence[str] | None = None,
    dvc: str | Path | None = None,
) -> Runs:
    """What the runs in these folders (default `runs`) came to.

    sort:    `created`, `name`, `bytes`, `seconds` …, or the name of a figure: the best first
    plot:    a `.png`, `.svg` or `.pdf` for their courses in training
    figures: which are plotted; default: what they share, held-out ones first
    dvc:     a `dvc.yaml` to write, with a stage for every run
    Returns `runs` (a line each: path, model, data, status, steps, seconds, figures, bytes, smaller, faster,
    verdict, versions), `settings` (dotted keys that differ, with a value per run), and `plotted`.
    Raises CallError where a folder is not there, or for a key, a figure or a form of file that is not known.
    """
    lines = sort_lines(list_runs(folders or ("runs",)), sort)
    readable = [line for line in lines if not line.status.startswith("unreadable")]
    settings = settings_that_differ(readable) if len(readable) > 1 else {}
    plotted: list[str] = []
    if plot is not None:
        courses = {str(line.path): read_jsonl(line.path / "metrics.jsonl") for line in readable}
        plotted = draw_courses(courses, Path(plot), figures)
    if dvc is not None:
        write_pipeline(readable, Path(dvc))
    return Runs(
        {
            "runs": [line.to_json() for line in lines],
            "settings": {
                "runs": [str(line.path) for line in readable],
                "values": settings,
            },
            "plotted": plotted,
        }
    )
