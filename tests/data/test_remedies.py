"""Remedies of what the audit finds: estimated on the training split, and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from niwaki.data import DataConfig, load
from niwaki.data.remedies import copies, fill_in, outliers
from niwaki_runtime.errors import CallError


def table(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """300 rows of 3 numbers, of which 20 lack one, 10 repeat another and 3 lie far away."""
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    x[:20, 1] = np.nan
    x[290:] = x[100:110]
    x[50:53] *= 1000
    np.savez(tmp_path / "x.npz", x=x)
    return tmp_path / "x.npz", x


def config(path: Path, **remedies: object) -> DataConfig:
    more = {"remedies": remedies} if remedies else {}
    return DataConfig.model_validate({"source": "arrays", "path": str(path), **more})


def test_without_remedies_the_audit_names_them(tmp_path: Path) -> None:
    data = load(config(table(tmp_path)[0]))
    texts = " ".join(f.text for f in data.audit.findings)
    assert "data.remedies.impute" in texts
    assert "data.remedies.duplicates" in texts
    assert not data.audit.of_kind("remedied")


def test_missing_values_are_filled_in_by_the_training_median(tmp_path: Path) -> None:
    path, _ = table(tmp_path)
    before, after = load(config(path)), load(config(path, impute="median"))
    parts = [after.train, after.validation, after.test]
    assert sum(map(len, parts)) == 300
    assert all(bool(torch.isfinite(p.columns["x"].data).all()) for p in parts)
    known = before.train.columns["x"].data[:, 1].sort().values
    filled = known[(len(known) - 1) // 2]
    assert sum(int((p.columns["x"].data[:, 1] == filled).sum()) for p in parts) >= 20
    assert "20 samples" in after.audit.of_kind("remedied")[0].text


def test_copies_go_and_outliers_leave_the_training_split_alone(tmp_path: Path) -> None:
    path, _ = table(tmp_path)
    before, after = load(config(path)), load(config(path, duplicates="remove", outliers="remove"))
    whole, part = before.train.columns["x"].data, after.train.columns["x"].data
    assert len(torch.unique(part, dim=0)) == len(part)
    assert float(whole.abs().amax()) > 100 > float(part.abs().amax())
    for name in ("validation", "test"):
        one, other = (getattr(d, name).columns["x"].data for d in (before, after))
        assert torch.equal(torch.unique(one, dim=0), torch.unique(other, dim=0)), name
    assert len(after.audit.of_kind("remedied")) == 2
    assert not after.audit.of_kind("duplicates")
    assert before.fingerprint != after.fingerprint


def test_what_is_filled_in_does_not_depend_on_held_out_samples() -> None:
    x = torch.tensor([[1.0], [2.0], [3.0], [torch.nan], [torch.inf], [1000.0]])
    train = np.array([True, True, True, True, False, False])
    for by in ("median", "mean"):
        filled, count = fill_in(x, train, by)
        assert count == 2
        assert filled.flatten().tolist() == [1.0, 2.0, 3.0, 2.0, 2.0, 1000.0]
    with pytest.raises(CallError, match="1 of 1 values are missing in every training sample"):
        fill_in(x, np.array([False, False, False, True, True, False]), "median")


def test_outliers_are_few_among_normal_samples_and_all_that_were_planted() -> None:
    x = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0))
    train = np.arange(2000) < 1500
    assert outliers(x, train, 6.0).sum() <= 1
    x[[3, 1700]] += 50.0
    found = outliers(x, train, 6.0)
    assert found[3]
    assert not found[1700]
    assert not outliers(torch.ones(9, 2), np.ones(9, dtype=bool), 6.0).any()


def test_copies_are_all_but_the_first() -> None:
    assert copies([b"a", b"b", b"a", b"a"]).tolist() == [False, False, True, True]
