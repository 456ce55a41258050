"""Samples that came later join the data; those that were there keep their splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.data import DataConfig, load
from niwaki_runtime.errors import CallError

DIGITS = {"source": "digits"}


def added(tmp_path, **arrays):
    file = tmp_path / "new.npz"
    np.savez(file, **arrays)
    return load(DataConfig.model_validate({**DIGITS, "additions": [str(file)]}))


def rows(n=40, seed=0):
    levels = np.random.default_rng(seed).integers(0, 17, (n, 1, 8, 8))
    return (levels / 8 - 1).astype(np.float32), np.arange(n) % 10


def members(split):
    return {row.tobytes() for row in split.x.numpy()}


def test_old_samples_keep_their_splits_and_new_ones_are_divided(tmp_path):
    before = load(DataConfig.model_validate(DIGITS))
    x, y = rows()
    after = added(tmp_path, x=x, **{"class": y})
    for name in ("train", "validation", "test"):
        assert members(before.split(name)) <= members(after.split(name))
    grown = {name: len(after.split(name)) - len(before.split(name)) for name in before.splits}
    assert sum(grown.values()) == 40
    assert grown["train"] > grown["test"] >= 0
    assert any(f.kind == "additions" for f in after.audit.findings)
    assert after.fingerprint != before.fingerprint


def test_values_are_stored_as_the_others_are(tmp_path):
    x, y = rows()
    after = added(tmp_path, x=x, **{"class": y})
    assert after.train.x.dtype == torch.uint8
    values = {row.tobytes() for split in after.splits.values() for row in split.values().numpy()}
    assert {row.tobytes() for row in x} <= values


def test_a_config_without_additions_has_the_hash_that_it_had():
    assert "additions" not in DataConfig.model_validate(DIGITS).model_dump()


@pytest.mark.parametrize("change, words", [
    (lambda a: a.pop("class"), "holds no 'class'"),
    (lambda a: a.pop("x"), "no array is called x"),
    (lambda a: a.update(x=a["x"][:, :, :4]), "shape"),
    (lambda a: a.update(x=a["x"] * 40), "outside"),
    (lambda a: a.update({"class": a["class"] + 9}), "0 … 9"),
    (lambda a: a.update({"class": a["class"][:7]}), "7 rows"),
])  # fmt: skip
def test_additions_that_do_not_fit_are_refused(tmp_path, change, words):
    x, y = rows()
    arrays = {"x": x, "class": y}
    change(arrays)
    with pytest.raises(CallError, match=words):
        added(tmp_path, **arrays)


def test_a_missing_file_is_named():
    with pytest.raises(CallError, match="nowhere"):
        load(DataConfig.model_validate({**DIGITS, "additions": ["nowhere.npz"]}))
