"""Retrain: a challenger on data that have grown, judged against the champion that it would replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.api.compare import compare
from niwaki.api.progress import with_progress
from niwaki.api.run import run
from niwaki.core.store import jsonable, write_json
from niwaki.recipe import Overrides, parse_overrides
from niwaki.workflow.challenge import challenger_recipe, next_place, words_of
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_directory import RunDirectory

__all__ = ["retrain"]


@with_progress
def retrain(
    champion: str | Path,
    additions: str | Path | None = None,
    overrides: Overrides = (),
    *,
    time: str | float | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Take a run's recipe the whole way again on its data and the additions, from the champion's weights, as
    a run of its own in `challengers/N`; then compare both bundles on the test split as it is now.

    additions: an `.npz` with `x` (and the data's other columns); default: `watch/additions.npz` in the run
    overrides: of the challenger's recipe; time: that all of it may take
    Returns `challenger` (its path), `verdict` by axis, `promoted` (whether it may take the champion's place:
    no loss on any axis), `text`; kept as `challenge.json` in the challenger, whose evaluation says what it
    forgot of the champion's data (`remembered`). Nothing of the champion is changed.
    Raises CallError where there is no trained model or no file, and what `run` raises.
    """
    reporter = reporter or Quiet()
    before = RunDirectory.open(champion)
    file = Path(additions) if additions is not None else before.path / "watch" / "additions.npz"
    recipe = challenger_recipe(before, file)
    place = next_place(before, file)
    made = run(recipe, parse_overrides(overrides), out=place, time=time, reporter=reporter)
    old, new = (r.bundle if before.bundle.exists() else r.path for r in (before, made))
    reporter.stage("challenge", f"{made.path.name} against the champion, on the data as they are now")
    found = compare(old, new, data=made.path, reporter=reporter)
    promoted, text = words_of(found["verdict"])
    record = {
        "champion": before.path,
        "challenger": made.path,
        "verdict": found["verdict"],
        "promoted": promoted,
        "text": text,
        "n": found["n"],
    }
    write_json(made.path / "challenge.json", jsonable(record))
    return record
