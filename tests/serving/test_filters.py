"""A server that filters: what is withheld is named with score and threshold; the rest is as without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.bundles import pictures, texts

import niwaki_runtime
from niwaki.core.contract import CallError
from niwaki.filters import Filter
from niwaki.filters.base import FilterPlace
from niwaki.serving.trial.log import read_log
from niwaki_runtime.specs import ValueSpec

N = 24


class Bright(Filter):
    """The mean grey, 0 … 1."""

    kind, name, threshold = "bright", "bright", 0.5

    @classmethod
    def holds(cls, path: Path) -> bool:
        return False

    @classmethod
    def open(cls, place: FilterPlace) -> Bright:
        return cls()

    def check(self, spec: ValueSpec) -> None:
        if spec.axes != "CHW":
            raise CallError("pictures alone are bright")

    def score(self, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        return (x.reshape(len(x), -1).mean(1) - spec.low) / (spec.high - spec.low)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("filtered") / "insects.niwaki")


@pytest.fixture(scope="module")
def expected(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    """The samples without a filter, and which of them are bright."""
    opened = niwaki_runtime.load(bundle)
    x = np.asarray(opened.sample(N, seed=3))
    spec = opened.program("sample").output
    bright = Bright().score(x, spec) > 0.5
    assert 0 < bright.sum() < N
    return x, bright


def test_what_is_withheld_is_named_and_the_rest_is_as_it_was(
    serving: Callable[..., Any], bundle: Path, expected: Any
) -> None:
    x, bright = expected
    server = serving(bundle, filter=Bright())
    found = server.post("/v1/run/sample", n=N, seed=3).json()
    for i, entry in enumerate(found["data"]):
        assert found["filter"][i]["flagged"] == bright[i]
        if bright[i]:
            error = entry["error"]
            assert error["code"] == "withheld"
            assert (error["filter"]["index"], error["filter"]["seed"]) == (i, 3)
            assert error["filter"]["score"] > error["filter"]["threshold"] == 0.5
        else:
            assert np.array_equal(np.array(entry, np.float32), x[i])
    images = server.post("/v1/images/generations", n=N, seed=3).json()["data"]
    assert [("error" in one) for one in images] == bright.tolist()
    assert all(("b64_json" in one) != ("error" in one) for one in images)
    assert all(one["filter"]["threshold"] == 0.5 for one in images)


def test_a_request_of_which_nothing_is_left_fails(
    serving: Callable[..., Any], bundle: Path, expected: Any
) -> None:
    first = int(np.flatnonzero(expected[1])[0])
    answer = serving(bundle, filter=Bright()).post("/v1/images/generations", seed=3, start=first)
    assert answer.status_code == 403
    assert answer.json()["error"]["filter"]["index"] == first


def test_marked_samples_are_all_given_with_their_scores(
    serving: Callable[..., Any], bundle: Path, expected: Any
) -> None:
    x, bright = expected
    found = serving(bundle, filter=Bright(), action="mark").post("/v1/run/sample", n=N, seed=3).json()
    assert np.array_equal(np.array(found["data"], np.float32), x)
    assert [one["flagged"] for one in found["filter"]] == bright.tolist()


def test_a_use_is_not_answered_unfiltered(serving: Callable[..., Any], bundle: Path) -> None:
    answer = serving(bundle, filter=Bright()).post("/v1/uses/interpolate", n=2)
    assert answer.status_code == 403
    assert "no filter" in answer.json()["error"]["message"]


def test_a_bundle_that_the_filter_cannot_look_at_is_not_served(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(CallError, match="pictures alone"):
        serving(texts(tmp_path / "t.niwaki"), filter=Bright())


def test_a_trial_counts_what_was_withheld(
    serving: Callable[..., Any], bundle: Path, expected: Any, tmp_path: Path
) -> None:
    log = tmp_path / "ab.jsonl"
    two = [f"a={bundle}", f"b={bundle}"]
    server = serving(two, ab="a:b:0.5", ab_log=log, filter=Bright())
    server.post("/v1/run/sample", n=N, seed=3, user="one")
    bare = serving(two, ab="a:b:0.5", ab_log=tmp_path / "bare.jsonl")
    bare.post("/v1/run/sample", n=N, seed=3, user="one")
    for path, share in ((log, expected[1].mean()), (tmp_path / "bare.jsonl", 0.0)):
        end = time.monotonic() + 20  # it is written once the answer is on its way
        while not (rows := read_log(path).tally.request) and time.monotonic() < end:
            time.sleep(0.02)
        ((_, figures),) = rows.values()
        assert figures["withheld"] == pytest.approx(share)
