"""What a run came to, in one object: the table at its end, and what `niwaki run --json` prints."""

from __future__ import annotations

from typing import Any

from niwaki.core.store import read_json
from niwaki.workflow.rundir import LEGS, RunDirectory

__all__ = ["summary"]


def summary(run: RunDirectory) -> dict[str, Any]:
    """`run`, `report`, `bundle`, `legs` (status and seconds), `measured`, `evaluation`, `verdict` of a
    finished run."""
    evaluation = read_json(run.evaluation)
    compression = read_json(run.compression)
    measured = compression["measured"]
    return {
        "run": run.path,
        "name": run.recipe.name,
        "bundle": run.bundle,
        "bundle_bytes": run.bundle.stat().st_size,
        "report": run.report,
        "legs": {leg: {k: run.leg(leg).get(k) for k in ("status", "seconds")} for leg in LEGS},
        "measured": measured,
        "evaluation": {k: evaluation[k] for k in ("trained", "bundle")},
        "verdict": compression["verdict"],
        "n": evaluation["n"],
        "seed": evaluation["seed"],
    }
