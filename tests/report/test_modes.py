"""Lost modes: named, and shown beside what the model makes instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from report.found import TEST, change, found_modes, keep_originals, mode
from report.test_pictures import opened

from niwaki.core.store import read_json, write_json
from niwaki.report import trust, write_report
from niwaki.report.modes import modes, positions
from niwaki.report.originals import wanted
from niwaki.report.record import read_run

CLUSTER = mode("cluster", "cluster 3 (90 % 8)", lost=True)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_real_samples_stand_above_the_generated_ones_nearest_to_them(run: Path) -> None:
    change(run, modes={"bundle": found_modes(CLUSTER)})
    kept = keep_originals(run)
    record = read_run(run)
    (card,) = modes(record)["modes"]
    assert (card["title"], card["outcome"], card["tone"]) == ("cluster 3 (90 % 8)", "lost", "bad")
    assert [p["apart"] for p in card["pairs"]] == ["1.5", "1.2", "1.8", "2.0", "0.50", "3.0"]
    spec = record.spec
    assert spec is not None
    for place, pair in enumerate(card["pairs"]):
        assert np.array_equal(opened(pair["real"]), spec.to_uint8(kept["test"][place])[0])
        assert np.array_equal(opened(pair["made"]), spec.to_uint8(record.samples["after"][place])[0])
    page = write_report(run).read_text()
    assert 'id="modes"' in page
    assert "Lower row: the generated sample nearest to each" in page
    assert "10.0 % of the real samples and 2.0 % of the generated ones: 0.20 of what it should be" in page


def test_the_trained_models_own_lack_is_told_apart(run: Path) -> None:
    own = mode("class", "8", lost=False, ratio=0.4)
    lost = mode("class", "8", lost=True)
    change(run, modes={"bundle": found_modes(lost, CLUSTER), "trained": found_modes(own)})
    first, second = modes(read_run(run))["modes"]
    assert first["title"] == "class 8"
    assert first["text"].startswith(
        "2.0 % of its real samples are covered, where as many training samples cover"
    )
    assert first["before"] == "The trained model already lacks it: 0.40 of what it should be."
    assert second["before"] == "The trained model was not found to lack it."


def test_of_the_trained_model_alone_nothing_is_said_of_compression(run: Path) -> None:
    change(run, modes={"trained": found_modes(CLUSTER)})
    found = modes(read_run(run))
    assert found["of"] == "trained model"
    assert found["modes"][0]["before"] == ""


def test_where_none_is_lost_one_sentence_says_so(run: Path) -> None:
    change(run, modes={"bundle": found_modes()})
    found = modes(read_run(run))
    assert found["text"] == (
        "None of the 14 clusters and 10 classes of the test split certainly gets less than it should."
    )
    assert found["modes"] == []
    page = write_report(run).read_text()
    assert "Lower row" not in page
    assert "there are no pictures" not in page


def test_the_finding_tells_lost_from_reduced() -> None:
    reduced = mode("class", "1", lost=False)
    assert trust.told_modes(found_modes(CLUSTER, reduced)) == (
        "bad",
        "Of 14 clusters and 10 classes: lost (surely less than half of what it should be): "
        "cluster 3 (90 % 8); reduced (surely too little): class 1.",
    )
    tone, text = trust.told_modes(found_modes(reduced))
    assert tone == "open"
    assert "lost" not in text


def test_pictures_that_were_not_kept_are_said_to_be_missing(run: Path) -> None:
    change(run, modes={"bundle": found_modes(CLUSTER)})
    found = modes(read_run(run))
    assert found["missing"] is True
    assert found["modes"][0]["pairs"] == []
    assert "there are no pictures" in write_report(run).read_text()


def test_originals_of_other_data_are_not_shown(run: Path) -> None:
    change(run, modes={"bundle": found_modes(CLUSTER)})
    keep_originals(run)
    info = read_json(run / "run.json")
    info["data"]["fingerprint"] = "of other data"
    write_json(run / "run.json", info)
    assert read_run(run).originals == {}


def test_only_the_worst_of_many_are_shown(run: Path) -> None:
    many = [mode("class", str(c), lost=True) for c in range(11)]
    change(run, modes={"bundle": found_modes(*many)})
    found = modes(read_run(run))
    assert len(found["modes"]) == 8
    assert found["more"] == 3
    assert len(positions(read_run(run))) == 8 * len(TEST)


def test_an_older_run_knows_its_lost_clusters_alone(run: Path) -> None:
    cell = {"index": 3, "name": "cluster 3 (90 % 8)", "expected": 0.1, "generated": 0, "typical": [4, 9]}
    other = {"index": 0, "name": "cluster 0 (80 % 1)", "expected": 0.9, "generated": 50, "typical": [1]}
    older = {"clusters": [other, cell], "dropped": [3]}
    change(run, clusters={"bundle": older}, modes=None)
    keep_originals(run)
    record = read_run(run)
    found = modes(record)
    (card,) = found["modes"]
    assert card["text"] == "It holds 10.0 % of the real samples and 0.0 % of the generated ones."
    assert [bool(p["real"]) and not p["made"] for p in card["pairs"]] == [True, True]
    assert positions(record) == [4, 9]
    assert "lost" in found["text"]
    page = write_report(run).read_text()
    assert "Upper row: real test samples of the mode." in page
    bare = {"clusters": [{"index": i, "name": f"cluster {i}"} for i in range(3)], "dropped": [1]}
    change(run, clusters={"bundle": bare})
    assert modes(read_run(run))["modes"][0]["text"] == ""


def test_nobody_looked(run: Path) -> None:
    assert modes(read_run(run)) == {}
    change(run, modes={"bundle": {"left_out": "too few"}})
    assert modes(read_run(run)) == {}
    assert 'id="modes"' not in write_report(run).read_text()


def test_what_the_page_shows_is_wanted(run: Path) -> None:
    change(run, modes={"bundle": found_modes(CLUSTER)})
    assert wanted(read_run(run)) == {"test": list(TEST), "train": []}
    info = read_json(run / "run.json")
    info["data"]["spec"] = {"modality": "vector", "shape": [2], "low": -4, "high": 4}
    write_json(run / "run.json", info)
    assert wanted(read_run(run)) == {}, "samples that are no pictures"
