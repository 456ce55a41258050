"""Margins are kept beside a run's recipe and taken up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation.vectors import Identity, vector_dataset

from niwaki.core.store import read_json
from niwaki.data import Dataset
from niwaki.evaluation import calibrated, compare
from niwaki.workflow import margins as room
from niwaki.workflow.margins import fix_margins, keep_margins, kept_margins

CENTRES = 8 * np.random.default_rng(0).normal(size=(20, 6))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return vector_dataset(np.random.default_rng(1), CENTRES, (700, 300, 300))


def draw(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (CENTRES[rng.integers(0, 20, n)] + rng.normal(size=(n, 6))).astype(np.float32)


def test_they_are_fixed_once_and_serve_the_verdict(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "margins.json", draw(600, 2)
    record = fix_margins(path, before, dataset, [Identity()], seed=0)
    assert read_json(path) == record
    assert record["diversity"]["value"] > 0.02, "modes that lie apart cost most of what they hold"
    monkeypatch.setattr(room, "calibrated", lambda *_, **__: pytest.fail("it was known"))
    assert fix_margins(path, before, dataset, [Identity()], seed=0) == record
    found = compare(before, draw(600, 3), dataset, [Identity()], calibration=kept_margins(path))
    assert found.diversity.margin == record["diversity"]["value"]
    stamp = path.stat().st_mtime_ns
    keep_margins(path, found.calibration)
    assert path.stat().st_mtime_ns == stamp, "what is stored is not written again"
    monkeypatch.undo()
    assert fix_margins(path, draw(600, 9), dataset, [Identity()], seed=0)["key"] != record["key"]
    assert read_json(path)["key"] != record["key"], "of another model"


def test_damaged_and_missing_records_count_as_none(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "margins.json"
    assert kept_margins(path) is None
    for text in ("{", "[]", '{"key": 1}'):
        path.write_text(text)
        assert kept_margins(path) is None
    keep_margins(path, calibrated(draw(100, 2), dataset, [Identity()]))
    assert kept_margins(path) is not None


def test_samples_that_allow_no_verdict_have_their_reason(dataset: Dataset, tmp_path: Path) -> None:
    found = fix_margins(tmp_path / "margins.json", draw(20, 2), dataset, [Identity()], seed=0)
    assert "at least 50" in found["left_out"]
    assert not (tmp_path / "margins.json").exists()
