"""The pairs that changed most: ranked, with pictures, and with what they have in common."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report.found import change

from niwaki.core.contract import DataSpec
from niwaki.core.store import read_json
from niwaki.report import write_report
from niwaki.report.gallery import damage_gallery, damage_of, no_pairs
from niwaki.report.judgement import verdicts
from niwaki.report.record import read_run
from niwaki.report.sheet import samples


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def with_damage(run: Path, damage: np.ndarray) -> None:
    with np.load(run / "samples.npz") as file:
        arrays = dict(file)
    np.savez(run / "samples.npz", **arrays, damage=damage)


def test_pixels_where_nothing_was_measured_in_features(run: Path) -> None:
    record = read_run(run)
    damage, unit = damage_of(record)
    assert damage is not None
    assert "pixels" in unit
    by_hand = np.abs(record.samples["after"] - record.samples["before"]).mean((1, 2, 3)) / 2
    assert np.allclose(damage, by_hand)


def test_the_most_changed_pairs_come_first(run: Path) -> None:
    given = np.random.default_rng(0).permutation(180) / 100.0
    with_damage(run, given)
    found, unit = damage_of(read_run(run))
    assert found is not None
    assert np.array_equal(found, given)
    assert "features" in unit
    gallery = damage_gallery(read_run(run))
    assert [p["note"] for p in gallery["worst"]][:3] == ["1.8", "1.8", "1.8"]
    assert [p["caption"].split(".")[0] for p in gallery["worst"]] == [str(r) for r in range(1, 13)]
    labels = read_run(run).samples["labels"]
    assert gallery["worst"][0]["caption"] == f"1. {labels[given.argmax()]}"
    assert [p["note"] for p in gallery["usual"]] == ["0.91", "0.90", "0.89", "0.88"]
    figures = dict(gallery["figures"])
    assert figures["half of all pairs"] == "0.90"
    assert figures["the most changed"] == "1.8"
    after, before = read_run(run).samples["after"], read_run(run).samples["before"]
    worst = given.argmax()
    assert figures["pixels of the most changed"].startswith(
        f"{50 * np.abs(after - before)[worst].mean():.1f} %"
    )


def test_what_they_have_in_common_stands_above_them(run: Path) -> None:
    comparison = read_json(run / "evaluation.json")["comparison"]
    change(run, comparison={**comparison, "common": {"text": "Most of them are eights.", "found": ["8"]}})
    page = write_report(run).read_text()
    section = page[page.index('id="damage"') : page.index('id="plane"')]
    assert "Most of them are eights." in section
    assert section.index("Most of them are eights.") < section.index('class="pair"')
    assert "From the middle of the ranking" in section


def test_an_older_run_says_nothing_of_what_is_common(run: Path) -> None:
    assert damage_gallery(read_run(run))["common"] == ""
    assert "have in common" not in write_report(run).read_text()


def test_few_pairs_have_no_middle(run: Path) -> None:
    with np.load(run / "samples.npz") as file:
        few = {k: v[:20] for k, v in file.items()}
    np.savez(run / "samples.npz", **few)
    found = damage_gallery(read_run(run))
    assert len(found["worst"]) == 12
    assert found["usual"] == []


def test_there_is_no_gallery_of_one_side(run: Path) -> None:
    with np.load(run / "samples.npz") as file:
        np.savez(run / "samples.npz", before=file["before"], labels=file["labels"])
    assert damage_gallery(read_run(run)) == {}
    assert samples(read_run(run))["of"] == "the trained model"
    assert "the run holds no samples of both sides" in write_report(run).read_text()


def test_data_that_are_no_pictures_are_spoken_of_as_what_they_are(run: Path) -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(100.0, 20.0, (40, 3)).astype(np.float32)
    spec = DataSpec.of("vector", (3,), low=-math.inf, high=math.inf)
    kept = {"before": before, "after": before + 2.0}
    record = read_run(run)
    record = replace(record, data={**record.data, "spec": spec.to_json()}, samples=kept)
    damage, unit = damage_of(record)
    assert unit == "mean difference of values, as a share of what the samples before span"
    assert damage == pytest.approx(np.full(40, 2.0 / np.ptp(before)), rel=1e-5)
    figures = dict(damage_gallery(record)["figures"])
    assert figures["values of the most changed"].endswith("of what the samples before span")
    assert not samples(record)["classes"]
    assert no_pairs(record).startswith("samples of the kind 'vector' are no pictures")
    assert no_pairs(replace(record, samples={"before": before})).endswith("compared a bundle with its model")
    said = no_pairs(replace(record, samples={}, sections={"before": [{"judge": "forecast"}]}))
    assert said == "the run was judged by other means than pairs of samples"


def test_a_sheet_says_whether_it_is_in_classes(run: Path) -> None:
    assert "the first of every class, in the order" in write_report(run).read_text()
    with np.load(run / "samples.npz") as file:
        np.savez(run / "samples.npz", **{k: v for k, v in file.items() if k != "labels"})
    assert "these are the first, in the order" in write_report(run).read_text()


def test_a_verdict_without_a_margin_speaks_of_none(run: Path) -> None:
    comparison = read_json(run / "evaluation.json")["comparison"]
    none = {**comparison["diversity"], "margin": 0.0, "n": 1000, "n_needed": 400}
    change(run, comparison={**comparison, "diversity": none})
    (axis,) = [axis for axis in verdicts(read_run(run).comparison) if axis.axis == "diversity"]
    assert axis.meaning.startswith("No margin could be fixed beforehand")
    assert not axis.drawn
    assert dict(axis.figures)["margin fixed beforehand"] == "none"
    assert "pairs needed to decide" not in dict(axis.figures), "there are more already"
    change(run, comparison={**comparison, "diversity": {**none, "margin": 0.05, "n": 200}})
    (axis,) = [axis for axis in verdicts(read_run(run).comparison) if axis.axis == "diversity"]
    assert "reaches across the margin" in axis.meaning
    assert dict(axis.figures)["pairs needed to decide"] == "about 400"
