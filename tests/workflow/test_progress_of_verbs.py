"""Verbs of the Python interface show progress where somebody looks, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from niwaki.api import progress as module
from niwaki.api.progress import with_progress
from niwaki.workflow import progress as shown
from niwaki.workflow.reporter import Quiet


@pytest.mark.parametrize(
    ("looked_at", "asked", "drawn"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_progress_is_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, looked_at: bool, asked: bool | None, drawn: bool
) -> None:
    made: list[Any] = []

    class Bars(Quiet):
        def __init__(self) -> None:
            made.append(self)

        def close(self) -> None:
            made.append("closed")

    monkeypatch.setattr(shown, "Drawn", Bars)
    monkeypatch.setattr(module, "_looked_at", lambda: looked_at)

    @with_progress
    def verb(x: int, *, reporter: Any = None) -> Any:
        return x, reporter

    x, reporter = verb(3, progress=asked)
    assert x == 3
    assert isinstance(reporter, Bars) == drawn
    assert made[1:] == (["closed"] if drawn else [])
    own = Quiet()
    assert verb(1, reporter=own, progress=True) == (1, own), (
        "a reporter that is given is the one that is told"
    )
