"""Copies beside their originals, and what the gate decided."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.found import TRAIN, change, fitness, keep_copies, keep_originals
from report.test_pictures import opened

from niwaki.core.store import read_json
from niwaki.report import write_report
from niwaki.report.memory import copies, positions
from niwaki.report.record import read_run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def marks(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p["apart"], p["mark"]) for p in found["pairs"]]


def test_the_nearest_stand_beside_their_originals(run: Path) -> None:
    keep_copies(run)
    kept = keep_originals(run)
    record = read_run(run)
    found = copies(record)
    assert (found["of"], found["outcome"], found["tone"]) == ("bundle", "may be released", "good")
    # in the usual distance of real samples, 2; nearer than the limit, 0.4, is close
    assert marks(found) == [("0.15", "close"), ("0.45", "")]
    assert record.spec is not None
    for pair, sample, original in zip(found["pairs"], (5, 6), (0, 1), strict=True):
        assert np.array_equal(opened(pair["made"]), record.spec.to_uint8(record.samples["after"][sample])[0])
        assert np.array_equal(opened(pair["real"]), record.spec.to_uint8(kept["train"][original])[0])
    assert dict(found["figures"])["chance allows"] == "2.7 %"
    page = write_report(run).read_text()
    assert 'id="copies"' in page
    assert "left what was made, right its original" in page
    assert "in the median" in page
    assert page.count('alt="nearest training sample"') == 2


def test_what_the_gate_holds_back_comes_first(run: Path) -> None:
    keep_copies(run, passed=False)
    found = copies(read_run(run))
    assert (found["outcome"], found["tone"]) == ("held back", "bad")
    assert found["text"].startswith("Held back")
    assert marks(found)[0] == ("0", "identical")
    assert len(found["pairs"]) == 3
    assert positions(read_run(run)) == [8, 11, 3]
    assert set(positions(read_run(run))) == set(TRAIN)


def test_a_copy_that_is_near_too_is_shown_once(run: Path) -> None:
    same = {"sample": 5, "train_index": 11, "distance": 0.3, "identical": True}
    keep_copies(run, passed=False, samples=[same])
    assert marks(copies(read_run(run))) == [("0.15", "identical"), ("0.45", "")]


def test_metrics_of_memory_are_told_where_they_are_to_be_trusted(run: Path) -> None:
    keep_copies(run)
    tree = read_json(run / "evaluation.json")["bundle"]
    for extractor in ("classifier", "random"):
        tree[extractor]["authenticity"] = {"value": 0.61, "floor": 0.6, "signature": "s"}
    change(run, bundle=tree, fitness={"random": fitness(fit=False)})
    told = dict(copies(read_run(run))["figures"])
    assert told["authenticity in 'classifier'"] == "0.610 (real samples: 0.600)"
    assert "authenticity in 'random'" not in told


def test_an_older_run_keeps_the_neighbours_of_its_bundle(run: Path) -> None:
    """Neither the usual distance nor the originals: the limit is the unit, `nearest` the originals."""
    keep_copies(run)
    change(run, gate=None)
    with np.load(run / "samples.npz") as file:
        arrays = dict(file)
    nearest = np.zeros_like(arrays["after"])
    nearest[5] = 1.0
    np.savez(run / "samples.npz", **arrays, nearest=nearest)
    found = copies(read_run(run))
    assert found["outcome"] == ""
    assert "nearest 1 %" in found["unit"]
    assert marks(found) == [("0.75", "close"), ("2.2", "")]
    assert (opened(found["pairs"][0]["real"]) == 255).all()
    write_report(run)


def test_originals_that_were_not_kept(run: Path) -> None:
    keep_copies(run)
    found = copies(read_run(run))
    assert found["pictured"] is False
    assert [p["real"] for p in found["pairs"]] == ["", ""]
    assert "which was not kept with the run" in write_report(run).read_text()


def test_figures_without_pictures(run: Path) -> None:
    """Neither pairs nor a gate, as in the made-up run."""
    found = copies(read_run(run))
    assert found["pairs"] == []
    assert found["figures"][0] == ("close to a training sample", "1.2 % (0.40 … 2.00 %)")
    (run / "samples.npz").unlink()
    keep_copies(run)
    assert copies(read_run(run))["pairs"] == []
    page = write_report(run).read_text()
    assert "left what was made" not in page


def test_nobody_looked_for_copies(run: Path) -> None:
    change(run, trained={}, bundle={"copies": {}})
    assert copies(read_run(run)) == {}
    assert positions(read_run(run)) == []
    assert 'id="copies"' not in write_report(run).read_text()
