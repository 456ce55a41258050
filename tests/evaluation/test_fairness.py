"""Frames of fairlearn's: shares that were planted come out, of single attributes and of their meetings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from niwaki.api.fairness import frame
from niwaki.api.train import train
from niwaki.core.contract import CallError
from niwaki.evaluation.fairness import fairness_frame
from niwaki.recipe import recipe_from

pytest.importorskip("fairlearn")
NAMES = {"kind": ("bee", "ant"), "size": ("small", "large")}


def test_shares_of_single_groups_and_of_meetings() -> None:
    real = {"kind": np.repeat([0, 1], [50, 50]), "size": np.tile([0, 1], 50)}
    made = {"kind": np.repeat([0, 1], [150, 50]), "size": np.tile([0, 1], 100)}
    one = fairness_frame(real, made, {"kind": NAMES["kind"]})
    assert one.by_group["generated"].to_dict() == {"ant": 0.25, "bee": 0.75}
    assert one.by_group["real"].to_dict() == {"ant": 0.5, "bee": 0.5}
    assert one.by_group["ratio"].to_dict() == {"ant": 0.5, "bee": 1.5}
    assert one.difference()["ratio"] == pytest.approx(1.0)
    both = fairness_frame(real, made, NAMES).by_group["ratio"]
    assert both["bee", "small"] == pytest.approx(1.5)
    assert both["ant", "large"] == pytest.approx(0.5)


def test_what_is_as_it_should_be_has_ratio_one_and_a_group_of_no_data_is_infinite() -> None:
    same = {"kind": np.array([0, 1, 1])}
    assert fairness_frame(same, same, {"kind": NAMES["kind"]}).by_group["ratio"].tolist() == [1.0, 1.0]
    alone = {"kind": np.array([1, 1, 1])}
    assert np.isinf(fairness_frame(alone, same, {"kind": NAMES["kind"]}).by_group["ratio"]["bee"])


def test_an_unknown_attribute_is_named() -> None:
    rows = {"kind": np.array([0, 1])}
    with pytest.raises(CallError, match="'size'"):
        fairness_frame(rows, rows, NAMES)
    with pytest.raises(CallError, match="name attributes"):
        fairness_frame(rows, rows, {})


def test_a_run_is_framed_by_the_classes_of_its_data(tmp_path: Path) -> None:
    recipe = {
        "name": "tiny",
        "data": {"source": "digits"},
        "model": {"name": "vae", "latent": 4, "width": 16},
        "train": {"steps": 4, "batch": 32, "lr": 1e-3},
        "evaluate": {"features": ["classifier"]},
    }
    run = train(recipe_from(recipe), out=tmp_path / "run").path
    found = frame(run, "class", n=60, progress=False).by_group
    assert found["real"].sum() == pytest.approx(1.0)
    assert found["generated"].sum() == pytest.approx(1.0)
    assert len(found) == 10
    with pytest.raises(CallError, match="'font' is no attribute"):
        frame(run, "font", progress=False)
