"""A trial's log: JSON lines, the trial first, then requests, outcomes and the stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.store import read_jsonl
from niwaki.serving.trial.plan import TrialPlan
from niwaki.serving.trial.standing import GUARDS, Tally
from niwaki_runtime.errors import CallError, NiwakiError

__all__ = ["TrialLog", "read_log"]


@dataclass
class TrialLog:
    """
    stopped: why B is given no more; empty while it is
    """

    plan: TrialPlan
    tally: Tally = field(default_factory=Tally)
    stopped: str = ""


def read_log(path: Path) -> TrialLog:
    """Raises NiwakiError where there is no such file, CallError where it is no trial's log."""
    if not path.is_file():
        raise NiwakiError(f"there is no log of a trial at {path}; `niwaki serve A B --ab a:b` writes one")
    lines = read_jsonl(path)
    if not lines or not isinstance(lines[0], Mapping) or lines[0].get("kind") != "trial":
        raise CallError(f"{path} is no log of a trial")
    found = TrialLog(TrialPlan.from_json(lines[0]))
    for line in lines[1:]:
        take(found, line)
    return found


def take(log: TrialLog, line: Mapping[str, Any]) -> bool:
    """Count one line; whether it changes where the trial stands. What came after the stop is not of the
    trial."""
    kind, user = line.get("kind"), str(line.get("user", ""))
    if kind == "stopped":
        log.stopped = str(line.get("why") or "it was stopped")
        return True
    if log.stopped or kind not in ("outcome", "request") or not user:
        return False
    arm = log.plan.arm_of(user)
    if kind == "outcome":
        return log.tally.add_outcome(user, arm, min(1.0, max(0.0, float(line["value"]))))
    return log.tally.add_request(user, arm, {name: float(line.get(name, 0.0)) for name in GUARDS})
