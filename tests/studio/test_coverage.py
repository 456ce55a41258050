"""The page of coverage and damage: what a run's records say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from studio.test_runs import run

from niwaki.core.contract import DataSpec

SPEC = DataSpec.of("image", (1, 4, 4), levels=17, classes=3, class_names=("ant", "bee", "cat"))


def evaluated(path: Path) -> Path:
    """A run whose bundle lost a class, by its records."""
    run(path)
    metric = {"value": 0.9, "signature": "s", "n": [30, 30], "interval": [0.8, 1.0]}

    def coverage(*values: float) -> dict[str, Any]:
        return {
            "pixels": {"coverage_per_class": {str(i): v for i, v in enumerate(values)}, "coverage": metric}
        }

    (path / "data.json").write_text(
        json.dumps({"version": 1, "name": "insects", "fingerprint": "f", "spec": SPEC.to_json()})
    )
    (path / "evaluation.json").write_text(
        json.dumps({"trained": coverage(0.9, 0.8, 0.7), "bundle": coverage(0.9, 0.1, 0.7)})
    )
    rng = np.random.default_rng(0)
    before = rng.uniform(-1, 1, (20, 1, 4, 4)).astype(np.float32)
    after = before.copy()
    after[7] = -before[7]
    for folder, samples in (("evidence", before), ("verdict", after)):
        (path / folder).mkdir()
        labels = {"labels": np.arange(20) % 3} if folder == "evidence" else {}
        np.savez(path / folder / "samples.npz", samples=samples, **labels)
    return path


def test_coverage_and_the_pairs_that_changed_most(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = evaluated(tmp_path / "runs" / "one")
    server = opened(place)
    assert "/coverage" not in server.client.get("/", follow_redirects=True).url.path
    assert server.client.get("/coverage/runs").json() == {"runs": [str(place)]}
    found = server.post("/coverage/state", run=str(place)).json()
    rows = {row["name"]: (row["before"], row["after"]) for row in found["coverage"]}
    assert rows == {"ant": (0.9, 0.9), "bee": (0.8, 0.1), "cat": (0.7, 0.7)}
    worst = found["damage"]["worst"][0]
    assert worst["caption"] == "1. bee"  # sample 7 of classes in turn
    assert worst["before"].startswith("data:image/png")
    assert worst["before"] != worst["after"]
    assert found["damage"]["chart"]["svg"].startswith("<svg")


def test_a_run_without_records_has_no_such_page(opened: Callable[..., Any], tmp_path: Path) -> None:
    place = run(tmp_path / "runs" / "one")
    server = opened(place)
    assert "was evaluated yet" in server.client.get("/coverage").text
    refused = server.post("/coverage/state", run=str(place))
    assert refused.status_code == 400
    assert "there is no evaluated run" in refused.json()["error"]["message"]
