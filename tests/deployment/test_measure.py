"""Figures: medians are medians, calls take turns, memory is that of a fresh process."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import jsonable
from niwaki.deployment import (
    Latency,
    Measurement,
    interleave,
    measure_bundle,
    measure_model,
    measure_steadily,
    package,
)
from niwaki.deployment.baselines import compiled_bf16, eager_float32, torch_threads
from niwaki.deployment.memory import _PEAK, bundle_memory, peak_above_empty


def test_median_and_quartiles_in_milliseconds() -> None:
    latency = Latency.of([0.004, 0.001, 0.002, 0.003, 0.005])
    assert (latency.low_ms, latency.median_ms, latency.high_ms) == pytest.approx((2.0, 3.0, 4.0))
    assert latency.runs == 5


def test_calls_take_turns_and_each_is_warmed_before_it_is_timed() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = interleave(calls, rounds=3, warm=2, pause=0.0)
    assert "".join(order) == "aabbcc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert {latency.runs for latency in found.values()} == {3}
    with pytest.raises(CallError):
        interleave({}, rounds=3)


def test_long_calls_are_warmed_up_twice_and_go_without_the_untimed_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, made = 0.0, {"long": 0, "short": 0}

    def call(name: str, seconds: float) -> None:
        nonlocal now
        made[name] += 1
        now += seconds

    monkeypatch.setattr("niwaki.deployment.timing.time.perf_counter", lambda: now)
    calls = {"long": lambda: call("long", 0.5), "short": lambda: call("short", 0.125)}
    found = interleave(calls, rounds=3, warm=5, pause=0.0)
    assert made == {"long": 2 + 3, "short": 5 + 2 * 3}
    assert (found["long"].median_ms, found["short"].median_ms) == (500.0, 125.0)
    assert found["long"].runs == found["short"].runs == 3


def test_the_baseline_is_the_model_itself(build: Callable) -> None:
    model = build("denoiser").train()
    np.testing.assert_array_equal(eager_float32(model)(3), model.sample(3, seed=0))
    assert model.training


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_the_compiled_baseline_makes_the_same_samples_within_bf16(build: Callable) -> None:
    model = build("conv")
    made = compiled_bf16(model)(4)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, model.sample(4, seed=0), atol=0.05, rtol=0)


def test_a_measurement_of_a_bundle_round_trips_through_json(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    bundle = package(model, paths, tmp_path / "a.niwaki")
    seen: list[tuple[int, int]] = []
    found = measure_bundle(
        bundle,
        batches=(1, 2),
        rounds=2,
        memory=False,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert found.bytes == bundle.stat().st_size
    assert found.engine == "openvino"
    assert found.ms(2) == found.latency[2].median_ms > 0
    assert Measurement.from_json(json.loads(json.dumps(jsonable(found)))) == found


@pytest.mark.slow
def test_a_model_counts_its_own_evaluations(build: Callable) -> None:
    found = measure_model(build("denoiser"), batches=(1,), rounds=1)
    assert found.evaluations == 12  # six steps, guided
    assert found.bytes is None
    assert found.memory_bytes is None


def test_memory_is_what_the_fresh_process_took() -> None:
    """An array of 64 MB that was there for a moment counts; what the parent process holds does not."""
    held = np.ones(200 << 20, np.uint8)
    code = (
        "import sys, json\nempty = peak()\nx = b'1' * (64 << 20)\ndel x\nprint(json.dumps([empty, peak()]))"
    )
    assert 60 << 20 < peak_above_empty(["-c", _PEAK + code], [], repeats=1) < 70 << 20
    assert held[0] == 1


def test_memory_of_a_bundle_and_of_a_broken_one(exported: Callable, tmp_path: Path) -> None:
    model, paths = exported("conv")
    bundle = package(model, paths, tmp_path / "a.niwaki")
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert weights < bundle_memory(bundle, n=2, repeats=1) < 500 << 20
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(NiwakiError, match="failed"):
        bundle_memory(bundle, n=2, repeats=1)


def test_impossible_measurements_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="at least 1"):
        measure_bundle(tmp_path, batches=(0,))
    with pytest.raises(CallError, match="at least one round"):
        measure_bundle(tmp_path, rounds=0)


def test_long_calls_are_timed_for_a_minute_and_five_times_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda _: None)
    monkeypatch.setattr("niwaki.deployment.timing.time", clock)

    def lasting(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds)

    told: list[tuple[int, int]] = []
    found = interleave({"a": lasting(4.0), "b": lasting(1.0)}, progress=lambda *at: told.append(at))
    assert {latency.runs for latency in found.values()} == {13}  # 65 s
    assert (found["a"].median_ms, found["b"].median_ms) == (4000.0, 1000.0)
    assert told[-1] == (30, 30)
    assert interleave({"a": lasting(40.0)})["a"].runs == 5
    assert interleave({"a": lasting(0.01)})["a"].runs == 30
    assert interleave({"a": lasting(4.0)}, seconds=9.0, fewest=2)["a"].runs == 3
    assert interleave({"a": lasting(40.0)}, seconds=9.0, fewest=2)["a"].runs == 2


@pytest.mark.parametrize(
    ("low", "high", "uncertain"),
    [(37.0, 145.0, True), (0.07, 0.237, True), (1.0, 2.01, True), (1.0, 2.0, False), (1.36, 1.52, False),
     (5.0, 5.0, False)],
)  # fmt: skip
def test_a_time_is_uncertain_where_half_of_its_runs_span_a_factor_of_two(
    low: float, high: float, uncertain: bool
) -> None:
    assert Latency((low + high) / 2, low, high, 30).uncertain is uncertain


@pytest.mark.parametrize(
    ("spreads", "tried", "taken"),
    [
        ({4: 1.2}, [4], 4),  # steady at once
        ({4: 3.0, 2: 1.3}, [4, 2], 2),
        ({4: 9.0, 2: 3.0, 1: 1.1}, [4, 2, 1], 1),
        ({4: 9.0, 2: 3.0, 1: 5.0}, [4, 2, 1], 2),  # uneven to the end: the steadiest
        ({1: 8.0}, [1], 1),  # there are no fewer
        ({3: 2.5, 1: 1.0}, [3, 1], 1),
    ],
)
def test_what_is_uneven_is_measured_again_on_fewer_threads(
    monkeypatch: pytest.MonkeyPatch, spreads: dict[int, float], tried: list[int], taken: int
) -> None:
    asked: list[int] = []
    again: list[tuple[int, int]] = []

    def together(ways: Any, **_: Any) -> dict[str, dict[int, Latency]]:
        steady, uneven = Latency(1.0, 1.0, 1.1, 30), Latency(1.0, 1.0, spreads[asked[-1]], 30)
        return {"before": {1: steady, 16: steady}, "after": {1: steady, 16: uneven}}

    monkeypatch.setattr("niwaki.deployment.measure.measure_together", together)
    found, threads = measure_steadily(
        lambda threads: asked.append(threads) or {}, threads=next(iter(spreads)),
        again=lambda *at: again.append(at),
    )  # fmt: skip
    assert asked == tried
    assert again == list(pairwise(tried))
    assert threads == taken
    assert found["after"][16].high_ms == spreads[taken]
