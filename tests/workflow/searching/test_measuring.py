"""The model in torch is timed on as many threads as serve it best, and an uncertain time is said to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from niwaki.compression.search.budget import Budget
from niwaki.deployment.timing import Latency
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import measuring
from niwaki.workflow.searching.clock import Clock


class Notes(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def search(place: Path, monkeypatch: pytest.MonkeyPatch, taken: dict[str, Latency]) -> Any:
    """taken: what calls last, by the end of the name of a way"""

    def together(ways: Any, *, batches: Any, **rest: Any) -> dict[str, dict[int, Latency]]:
        return {name: {n: taken[name.rsplit(" ", 1)[-1]] for n in batches} for name in ways}

    monkeypatch.setattr(measuring, "measure_together", together)
    monkeypatch.setattr(measuring, "worthwhile_threads", lambda model, most: [1, most])
    monkeypatch.setattr(measuring, "eager_float32", lambda model, inputs: lambda n: None)
    monkeypatch.setattr(measuring, "weight_bytes", lambda model: 4000)
    export = SimpleNamespace(threads=2, precision="fast")
    run = SimpleNamespace(
        reporter=Notes(),
        model=None,
        dataset=SimpleNamespace(validation=None),
        recipe=SimpleNamespace(export=export),
    )
    units = SimpleNamespace(passes=1)
    return SimpleNamespace(
        run=run,
        path=place,
        units=units,
        clock=Clock(60.0),
        template=SimpleNamespace(evaluations=()),
        budget=Budget.parse("latency=/4"),
    )


def test_threads_that_wait_for_each_other_do_not_make_the_model_look_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Latency(11.0, 10.0, 12.0, 9), Latency(210.0, 200.0, 230.0, 9)
    found = search(tmp_path, monkeypatch, {"1": one, "2": two})
    assert measuring.measure_before(found)["latency"] == 10.0
    assert not found.run.reporter.said
    assert measuring.measure_before(found)["latency"] == 10.0  # of the file


@pytest.mark.parametrize(("slower", "threads"), [(20.0, [1]), (0.6, [1, 2])])
def test_threads_on_which_a_pass_takes_longer_are_left_out(
    slower: float, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    before = torch.get_num_threads()

    def graph(*inputs: Any) -> None:
        now[0] += 1.0 if torch.get_num_threads() == 1 else slower

    graph.example = lambda n: ()  # type: ignore[attr-defined]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measuring, "sampling_graphs", lambda model: {"graph": graph})
    found = measuring.worthwhile_threads(None, 2)  # type: ignore[arg-type]
    assert found == threads
    assert torch.get_num_threads() == before


def test_a_wide_spread_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Latency(30.0, 10.0, 60.0, 9)
    found = search(tmp_path, monkeypatch, {"1": wide, "2": wide})
    measuring.measure_before(found)
    [said] = found.run.reporter.said
    assert "latency of the model is uncertain" in said
    assert "10 to 60 ms" in said


def test_bundles_are_told_as_they_would_have_been_when_the_model_was_timed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = Latency(10.0, 10.0, 10.0, 9)
    found = search(tmp_path, monkeypatch, {"1": even, "2": even})
    measuring.measure_before(found)
    busy = Latency(20.0, 20.0, 20.0, 9)
    later = search(tmp_path, monkeypatch, {"1": busy, "2": busy, "0": Latency(6.0, 5.0, 7.0, 9)})
    monkeypatch.setattr(measuring, "bundle_way", lambda path, **rest: lambda n: None)
    monkeypatch.setattr(measuring, "engine_of", lambda export, path: "openvino")
    monkeypatch.setattr(measuring, "_shipped_bytes", lambda search, path: 100)
    [costs] = measuring.measure_bundles(later, [tmp_path / "a.niwaki"], seconds=1.0, memory=False)
    assert costs == {"latency": 2.5, "size": 100.0}
