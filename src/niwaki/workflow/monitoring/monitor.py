"""One look at what has come since the last one: blocks are scored, alarms told, a retraining proposed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npz_bytes
from niwaki.core.contract import CallError, Runner
from niwaki.core.store import write_bytes
from niwaki.evaluation.drift.channel import Stream
from niwaki.evaluation.drift.watch import Reading, Watch
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.monitoring.arriving import arrived
from niwaki.workflow.monitoring.reference import digest, reference_of, released
from niwaki.workflow.monitoring.streams import StreamState

__all__ = ["BLOCK", "open_stream", "propose", "take"]

BLOCK = 50
"""Samples of a block: what is certain is said after each."""


def open_stream(
    context: EvaluationContext,
    stream: Stream,
    folder: Path,
    *,
    runner: Runner | None,
    model: Path | None = None,
    margin: float,
    level: float,
    block: int,
    fresh: bool,
) -> StreamState:
    """runner: the model that is watched, for outputs; model: where it lies

    Raises CallError where an earlier watch of the folder had other settings and `fresh` is not set."""
    if block < 10:
        raise CallError("a block of a watch needs at least 10 samples")
    reference = reference_of(context, stream, runner, model, folder)
    watch = Watch(stream, reference, margin=margin, level=level, seed=context.seed)
    if fresh:
        for ending in ("json", "npz"):
            (folder / f"{stream}.{ending}").unlink(missing_ok=True)
    return StreamState.open(folder, watch, digest(reference), block, tuple(context.dataset.spec.shape))


def take(
    state: StreamState, context: EvaluationContext, place: Path | Runner, *, draw: int
) -> list[list[Reading]]:
    """What is new at a place, or `draw` samples of a model; readings of the blocks that it fills. All is on
    disk when it returns."""
    report = context.reporter
    if isinstance(place, Path):
        report.stage("watch", f"{state.stream}: what is new in {place}")
        found = arrived(place, context, state.taken)
        for row in found.broken:
            report.note(f"set aside: {row['file']}: {row['reason']}")
        x, state.taken = found.x, found.taken
    else:
        report.stage("watch", f"{state.stream}: {draw:,} samples of the model")
        x = released(context, place, draw, start=1 + state.drawn)
        state.drawn += draw
    before = {row["channel"]: row["standing"] for row in (state.history[-1] if state.history else [])}
    said = state.add(x, context.extractors[0])
    state.save()
    for readings in said:
        for reading in readings:
            if reading.standing == "alarm" and before.get(reading.channel) != "alarm":
                report.note(f"ALARM: {state.stream} {reading.title}")
            before[reading.channel] = reading.standing
    return said


def propose(state: StreamState, context: EvaluationContext, folder: Path) -> dict[str, Any] | None:
    """Where inputs drift, the samples since the change are written as `additions.npz`; else None.

    Classes that the data have and the samples do not are those that the classifier of the verdict sees.
    """
    last: Sequence[dict[str, Any]] = state.history[-1] if state.history else ()
    alarms = [row for row in last if row["standing"] == "alarm"]
    if state.stream != "inputs" or not alarms:
        return None
    loudest = max(alarms, key=lambda row: row["low"])
    arrays = {"x": state.since(int(loudest["since"]))}
    if context.dataset.spec.classes:
        seen = next((e for e in context.extractors if hasattr(e, "probabilities")), None)
        if seen is not None:
            arrays["class"] = np.asarray(seen.probabilities(arrays["x"])).argmax(1).astype(np.int64)
    out = folder / "additions.npz"
    write_bytes(out, npz_bytes(**arrays))
    return {
        "additions": out,
        "n": len(arrays["x"]),
        "since": int(loudest["since"]),
        "channel": loudest["channel"],
        "classes": "as the classifier of the verdict sees them" if "class" in arrays else "",
    }
