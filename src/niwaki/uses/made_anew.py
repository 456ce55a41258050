"""What `inpaint` and `outpaint` share: the part of pictures that is not known is made, and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from niwaki.uses.base import Call, Outcome
from niwaki.uses.baselines import mean_fill
from niwaki.uses.given import Given, run_program
from niwaki.uses.truth import against_truth, lines_of, side_by_side
from niwaki_runtime.specs import ValueSpec

__all__ = ["PROGRAM", "make_anew"]

PROGRAM = "inpaint"
Fills = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def make_anew(
    call: Call, given: Given, known: np.ndarray, spec: ValueSpec, fills: Fills,
    *, steps: int, repeats: int, of: str,
) -> Outcome:  # fmt: skip
    """Runs the program `inpaint`. What is known comes out as it was given; test samples are measured beside
    fills that need no model.

    known: 1 where a pixel is known, else 0 `(n, 1, H, W)`
    fills: training samples `(m, *shape)` → further fills by name
    of:    what the share that is made is one of, as a sentence says it
    """
    made = run_program(call, PROGRAM, given, {"known": given.x, "mask": known}, steps, repeats=repeats)
    # Engines that run in halves round what is known, too.
    made = np.where(np.broadcast_to(known, made.shape) == 1.0, given.x, made)
    share = float(1.0 - known.mean())
    record: dict[str, object] = {"n": len(made), "made_share": share}
    lines = [f"{len(made)} pictures, {100 * share:.0f} % of {of} made anew"]
    columns = [_blanked(given.x, known, spec), made]
    if given.dataset is not None:
        train = given.dataset.train.values().cpu().numpy()
        compared = {
            "made": made,
            "mean of the training data": mean_fill(given.x, known, train),
            **fills(train),
        }
        measured = against_truth(compared, given.x, spec, given.dataset)
        record["measured"] = measured
        lines += lines_of(measured)
        columns.append(given.x)
    sheet, width = side_by_side(*columns)
    return Outcome(
        record=record, lines=lines, x=made, spec=spec, names=given.names, sheet=sheet, columns=width,
        ending=".png",
    )  # fmt: skip


def _blanked(x: np.ndarray, known: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """x with the middle of the range where nothing is known: what a sheet shows as given."""
    return np.asarray(known * x + (1.0 - known) * (spec.low + spec.high) / 2, np.float32)
