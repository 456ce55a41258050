"""The real samples that the report shows are kept with the run, and never those of other data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import DataSpec, NiwakiError
from niwaki.core.store import write_json
from niwaki.data import Dataset, Split
from niwaki.report.record import read_run
from niwaki.workflow.stages import originals as stage
from niwaki.workflow.stages.originals import keep_originals

SPEC = DataSpec.of("image", (1, 4, 4))


def made_up(fingerprint: str = "a" * 64) -> Dataset:
    """Pictures of one grey level each: their position."""
    levels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 4, 4).clone()
    split = Split.of(SPEC, levels)
    return Dataset("levels", SPEC, split, split, Split.of(SPEC, levels + 100), fingerprint=fingerprint)


def session(path: Path, dataset: Dataset | None = None) -> Any:
    notes: list[str] = []
    kept = SimpleNamespace(
        run=SimpleNamespace(path=path),
        recipe=SimpleNamespace(data=None),
        reporter=SimpleNamespace(note=notes.append),
        notes=notes,
    )
    if dataset is not None:
        kept.dataset = dataset
    return kept


@pytest.fixture
def run(tmp_path: Path) -> Path:
    info = {"legs": {}, "data": {"fingerprint": "a" * 64, "spec": SPEC.to_json()}}
    write_json(tmp_path / "run.json", info)
    mode = {"kind": "class", "name": "1", "lost": True, "real": [7, 3], "nearest": [0, 0], "apart": [2, 2]}
    copies = {"close": {"value": 0.0}, "nearest": [{"sample": 0, "train_index": 9, "distance": 0.1}]}
    evaluation = {"trained": {"copies": copies}, "modes": {"trained": {"found": [mode]}}}
    write_json(tmp_path / "evaluation.json", evaluation)
    return tmp_path


def test_named_samples_are_kept_with_their_positions(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_originals(session(run, made_up()))
    kept = read_run(run).originals
    assert {split: sorted(found) for split, found in kept.items()} == {"test": [3, 7], "train": [9]}
    for split, offset in (("test", 100), ("train", 0)):
        for position, sample in kept[split].items():
            assert (SPEC.to_uint8(sample) == offset + position).all()
    monkeypatch.setattr(stage, "load_data", lambda *_: pytest.fail("all is there"))
    keep_originals(session(run))


def test_data_that_have_changed_are_not_shown(run: Path) -> None:
    heard = session(run, made_up("b" * 64))
    keep_originals(heard)
    assert not (run / "originals.npz").exists()
    assert "the data have changed since the evaluation" in heard.notes[0]


def test_data_that_are_gone_do_not_stop_the_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise NiwakiError("photos does not exist")

    monkeypatch.setattr(stage, "load_data", gone)
    heard = session(run)
    keep_originals(heard)
    assert heard.notes == ["the report shows no real samples: photos does not exist"]


def test_without_an_evaluation_no_data_are_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load_data", lambda *_: pytest.fail("nothing is wanted"))
    (run / "evaluation.json").unlink()
    keep_originals(session(run))
    assert not (run / "originals.npz").exists()
    assert np.array_equal(list(read_run(run).originals), [])


def test_some_real_samples_are_kept_beside_those_made(run: Path) -> None:
    np.savez(run / "samples.npz", before=np.zeros((20, 1, 4, 4), np.float32))
    keep_originals(session(run, made_up()))
    record = read_run(run)
    assert len(record.real["samples"]) == 40, "all that there are, up to 60"
    assert (SPEC.to_uint8(record.real["samples"]) == np.arange(100, 140)[:, None, None, None]).all()
    assert "labels" not in record.real
    assert sorted(record.originals["test"]) == [3, 7]
