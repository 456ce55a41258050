"""Watch: what comes to a model in use, and what it makes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError, Runner
from niwaki.evaluation.drift.channel import Stream
from niwaki.evaluation.drift.watch import LEVEL, MARGIN
from niwaki.report.watch_picture import draw_watch
from niwaki.workflow.estimates.span import seconds_in
from niwaki.workflow.lock import locked
from niwaki.workflow.monitoring.monitor import BLOCK, open_stream, propose, take
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.subjects.data import context_of
from niwaki.workflow.subjects.subject import is_bundle, is_model, open_subject

__all__ = ["watch"]


@with_progress
def watch(
    what: str | Path,
    *,
    inputs: str | Path | None = None,
    outputs: str | Path | None = None,
    data: Any = None,
    draw: int = 500,
    margin: float = MARGIN,
    level: float = LEVEL,
    block: int = BLOCK,
    follow: str | float | None = None,
    fresh: bool = False,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Look at what has come since the last call, and say whether it is still what it was.

    what:    a run or a bundle; bundles of no run need `data`
    inputs:  a folder (pictures, `.npz`, `.npy`) or an array file that real samples arrive in
    outputs: the same for what the model has made; or a run or bundle, of which `draw` more samples are drawn
    margin:  effect that counts as none: the share of samples as if replaced by ones of another kind
    level:   chance that each stream ever raises a false alarm, however long it is watched
    block:   samples after each of which is said what is certain
    follow:  look again after so long, until Ctrl-C
    fresh:   begin anew; out: where what is known is kept (default: `watch/` in the run, `<bundle>.watch`)
    Returns `watched`, `folder`, `streams` (by name `readings`, of every channel its effect, low, high, since
    and standing; `standing`: `alarm`, `calm` or `open`; `blocks`, `waiting`, `picture`), and `proposal`: the
    samples to train on again, or None.
    Raises CallError where nothing is to be watched, for other settings than before, and for samples that are
    not of the data's kind.
    """
    reporter = reporter or Quiet()
    if inputs is None and outputs is None:
        raise CallError("nothing is watched: give inputs (real samples that arrive), outputs, or both")
    context = context_of([what], data, (), reporter)
    folder = Path(out) if out is not None else _home(Path(what))
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[Stream, Path | Runner] = {}
    if inputs is not None:
        places["inputs"] = Path(inputs)
    if outputs is not None:
        places["outputs"] = _made(outputs)
    model = _served(Path(what))
    runner = open_subject(model, device="cpu").runner if "outputs" in places else None
    with locked(folder):
        states = {
            stream: open_stream(
                context, stream, folder,
                runner=runner, model=model, margin=margin, level=level, block=block, fresh=fresh,
            )
            for stream in places
        }  # fmt: skip
        while True:
            for stream, place in places.items():
                take(states[stream], context, place, draw=draw)
            record = _record(states, what, margin, folder)
            if "inputs" in states:
                record["proposal"] = propose(states["inputs"], context, folder)
            if follow is None:
                return record
            try:
                time.sleep(seconds_in(follow))
            except KeyboardInterrupt:
                return record


def _record(states: Any, what: str | Path, margin: float, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {"watched": what, "streams": {}, "proposal": None, "folder": folder}
    for stream, state in states.items():
        readings = state.history[-1] if state.history else []
        standings = {row["standing"] for row in readings}
        calm = standings == {"calm"}
        found = {
            "readings": readings,
            "standing": "alarm" if "alarm" in standings else "calm" if calm else "open",
            "blocks": len(state.history),
            "waiting": len(state.waiting),
            "block": state.block,
            "picture": None,
        }
        if readings:
            found["picture"] = draw_watch(
                state.history, margin, f"{stream} of {what}", folder / f"{stream}.png"
            )
        record["streams"][stream] = found
    return record


def _home(what: Path) -> Path:
    return what / "watch" if is_run(what) else what.with_name(f"{what.name}.watch")


def _served(what: Path) -> Path:
    """Of a run, its bundle where it has one."""
    if is_run(what):
        bundle = RunDirectory.open(what).bundle
        return bundle if bundle.exists() else what
    return what


def _made(outputs: str | Path) -> Path | Runner:
    """A place of files, or a model that is drawn from."""
    path = Path(outputs)
    if is_run(path) or is_bundle(path) or is_model(path):
        runner = open_subject(_served(path), device="cpu").runner
        assert runner is not None
        return runner
    return path
