"""Before features are learned it is said how long that takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import niwaki.features
from niwaki.data import DataConfig
from niwaki.evaluation import EvaluateConfig
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.reporter import Quiet


class Heard(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("seconds", "kept", "said"),
    [
        (4.2, True, "600 steps, about 4.2 s; kept for later calls"),
        (95.0, True, "600 steps, about 95.0 s; kept for later calls"),
        (95.0, False, "600 steps, about 95.0 s"),
        (250.0, True, "600 steps, about 4 min 10 s; kept for later calls"),
        (7500.0, True, "600 steps, about 2 h 5 min; kept for later calls"),
    ],
)
def test_the_note(
    seconds: float, kept: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(names: Any, dataset: Any, *, announce: Any, **_: Any) -> list[Any]:
        announce("simclr", 600, seconds)
        return []

    monkeypatch.setattr(niwaki.features, "build", build)
    heard = Heard()
    config = EvaluateConfig(features=("simclr",))
    cache = tmp_path if kept else None
    context = EvaluationContext(DataConfig(source="digits"), config, cache=cache, reporter=heard)
    assert context.extractors == []
    assert f"'simclr' learns from the training split first: {said}" in heard.notes
