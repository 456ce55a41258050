"""Trial: where an A/B comparison of two served models stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.report.trial_picture import draw_trial
from niwaki.serving.trial.log import read_log
from niwaki.serving.trial.standing import Standing

__all__ = ["trial"]


def trial(log: str | Path, *, picture: str | Path | None = None) -> dict[str, Any]:
    """Read the log of `niwaki serve --ab`, also while it is written.

    picture: a PNG of the bounds as users came
    Returns `trial` (its settings), `outcome` (difference, low, high, decision, of A and B mean and users),
    `guards` (the same by name), `stop` (why B is to be stopped by these figures) and `stopped` (why the
    server has stopped it).
    Raises NiwakiError where there is no such log, CallError where it is none.
    """
    known = read_log(Path(log))
    plan = known.plan.to_json()
    del plan["key"], plan["kind"]
    found: dict[str, Any] = {"trial": plan, **Standing.of(known.plan, known.tally).to_json()}
    found["stopped"] = known.stopped
    if picture is not None:
        found["picture"] = draw_trial(known.plan, list(known.tally.outcome.values()), Path(picture))
    return found
