"""A trial at work: who is served by which model, what came of it, and the stop."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from niwaki.core.durable_log import DurableLog
from niwaki.serving.trial.log import TrialLog, read_log, take
from niwaki.serving.trial.plan import Arm, TrialPlan
from niwaki.serving.trial.standing import Standing
from niwaki_runtime.errors import CallError

__all__ = ["Trial"]

_log = logging.getLogger("niwaki.serving")
_FEWEST = 20
_GROWTH = 1.02
"""Users between two looks, as a share of those before: looking is free of cost to the bounds, not to the
processor."""


class Trial:
    """Goes on where its log ends: the same key, the same users, stopped where it was stopped."""

    def __init__(self, plan: TrialPlan, path: Path) -> None:
        """Raises CallError where the log is of another trial."""
        exists = path.is_file() and path.stat().st_size > 0
        self._known = read_log(path) if exists else TrialLog(plan)
        before = self._known.plan
        if {**plan.to_json(), "key": before.key} != before.to_json():
            raise CallError(f"{path} is the log of another trial; choose another --ab-log")
        self.plan = before
        self._file, self._lock = DurableLog(path), threading.Lock()
        if not exists:
            self._file.add(before.to_json())
        self._next = self._users * _GROWTH

    @property
    def stopped(self) -> str:
        """Why B is given no more; empty while it is."""
        return self._known.stopped

    def assign(self, user: str) -> tuple[str, Arm]:
        """A user's name in the log, and what they are given now."""
        name = self.plan.name_of(user)
        return name, "a" if self.stopped else self.plan.arm_of(name)

    def add_request(self, user: str, figures: dict[str, float]) -> None:
        """user: by `assign`; figures: of `GUARDS`"""
        self._add({"kind": "request", "user": user, **figures}, sync=False)

    def add_outcome(self, user: str, value: float) -> bool:
        """On the disk when this returns; whether it counts (the first of a user, before the stop). Raises
        CallError for a value outside 0 … 1."""
        if not 0.0 <= value <= 1.0:
            raise CallError(f"an outcome lies in 0 … 1, not {value}")
        return self._add({"kind": "outcome", "user": user, "value": value}, sync=True)

    def standing(self) -> dict[str, Any]:
        plan = self.plan.to_json()
        del plan["key"], plan["kind"]
        with self._lock:
            found = Standing.of(self.plan, self._known.tally).to_json()
        return {"trial": plan, **found, "stopped": self.stopped}

    @property
    def _users(self) -> int:
        return len(self._known.tally.outcome) + len(self._known.tally.request)

    def _add(self, line: dict[str, Any], sync: bool) -> bool:
        line["time"] = time.time()
        self._file.add(line, sync=sync)
        with self._lock:
            counts = take(self._known, line)
            if counts and not self.stopped and self._users >= max(_FEWEST, self._next):
                self._next = self._users * _GROWTH
                self._stop_where_worse()
        return counts

    def _stop_where_worse(self) -> None:
        why = Standing.of(self.plan, self._known.tally).stop
        if why:
            self._file.add({"kind": "stopped", "why": why, "time": time.time()})
            self._known.stopped = why
            a, b = self.plan.a, self.plan.b
            _log.warning("%s is given to nobody any more, all users are given %s: %s", b, a, why)

    def close(self) -> None:
        self._file.close()
