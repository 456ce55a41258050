"""Planted damage on real digits: each axis answers to its own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation import compare
from niwaki.modalities.drawing import blur


def judge(digits: Any, after: np.ndarray, n: int = 800, **options: Any) -> Any:
    return compare(
        digits.samples[:n], after[:n], digits.dataset, digits.extractors, labels=digits.labels[:n], **options
    )


def without_class(digits: Any, lost: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    after = digits.samples.copy()
    gone = digits.labels == lost
    after[gone] = digits.samples[rng.choice(np.flatnonzero(~gone), gone.sum())]
    return after


def test_nothing_changed_is_no_loss(digits: Any) -> None:
    found = judge(digits, digits.samples)
    for verdict in (found.fidelity, found.diversity):
        assert verdict.outcome == "no loss"
        assert verdict.delta == 0
        assert verdict.p_value == 1
    assert (found.damage == 0).all()
    assert found.accuracy["delta"] == 0


def test_a_slight_noise_is_no_loss(digits: Any) -> None:
    noise = np.random.default_rng(0).normal(size=digits.samples.shape).astype(np.float32)
    found = judge(digits, digits.samples + 0.02 * noise)
    assert found.fidelity.outcome == "no loss"
    assert found.diversity.outcome == "no loss"


def test_another_draw_of_the_same_generator_is_no_loss(digits: Any) -> None:
    found = judge(digits, digits.others)
    assert found.fidelity.outcome != "loss"
    assert found.diversity.outcome != "loss"
    assert min(found.fidelity.p_adjusted, found.diversity.p_adjusted) > 0.005


def test_a_dropped_class_is_a_loss_of_diversity_and_is_named(digits: Any) -> None:
    found = judge(digits, without_class(digits, 3))
    assert found.fidelity.outcome == "no loss"
    assert found.diversity.outcome == "loss"
    assert found.diversity.p_adjusted < 0.01
    assert "'3'" in found.diversity.text
    y = digits.dataset.test.y.numpy()
    lost = [y[entry["test_index"]] for entry in found.lost[:15]]
    assert np.mean(np.array(lost) == 3) > 0.8
    assert found.per_class["3"]["after"] < 0.5 * found.per_class["3"]["before"]


def test_noise_is_a_loss_of_fidelity_alone(digits: Any) -> None:
    noise = np.random.default_rng(1).normal(size=digits.samples.shape).astype(np.float32)
    found = judge(digits, digits.samples + 0.2 * noise)
    assert found.fidelity.outcome == "loss"
    assert found.fidelity.p_adjusted < 0.01
    assert found.diversity.outcome == "no loss"


def test_blur_is_a_loss_of_fidelity_and_grows_with_its_strength(digits: Any) -> None:
    found = [judge(digits, blur(digits.samples, sigma, (2, 3))) for sigma in (0.5, 0.7)]
    assert [f.fidelity.outcome for f in found] == ["loss", "loss"]
    assert found[1].fidelity.delta > 2 * found[0].fidelity.delta
    assert (
        found[0].fidelity.delta / found[0].fidelity.margin
        > found[0].diversity.delta / found[0].diversity.margin
    )


def test_ruining_5_percent_costs_about_the_margin(digits: Any) -> None:
    after = digits.samples.copy()
    after[::20] = blur(after[::20], 2.0, (2, 3))
    found = judge(digits, after)
    assert 0.6 < found.fidelity.delta / found.fidelity.margin < 1.6
    assert found.diversity.outcome == "no loss"
    hit = np.zeros(800, bool)
    hit[::20] = True
    assert hit[found.pairs.ranking[:40]].all()  # the damaged ones come first


def test_margins_do_not_vanish_with_more_samples(digits: Any) -> None:
    both = np.concatenate([digits.samples, digits.others])
    few, many = (compare(x, x, digits.dataset, digits.extractors) for x in (digits.samples, both))
    assert many.fidelity.margin == pytest.approx(few.fidelity.margin, rel=0.15)
    assert 0.5 < many.diversity.margin / few.diversity.margin < 2  # a quantile over a few dozen losses


def test_the_margins_are_the_callers_where_he_gives_them(digits: Any) -> None:
    noise = np.random.default_rng(1).normal(size=digits.samples.shape).astype(np.float32)
    found = judge(digits, digits.samples + 0.2 * noise, margins={"fidelity": 5.0})
    assert found.fidelity.margin == 5.0
    assert found.fidelity.outcome == "no loss"
    with pytest.raises(CallError, match="did you mean 'fidelity'"):
        judge(digits, digits.samples, margins={"fidelty": 1.0})


def test_repeats_exactly_and_fits_json(digits: Any) -> None:
    first, second = (judge(digits, digits.others, n=200, seed=3) for _ in range(2))
    assert json.dumps(jsonable(first)) == json.dumps(jsonable(second))
    record = jsonable(first)
    assert set(record) >= {"fidelity", "diversity", "damage", "lost", "per_class", "accuracy", "signature"}
    assert set(record["diversity"]) >= {
        "outcome",
        "delta",
        "interval",
        "margin",
        "p_value",
        "n_needed",
        "text",
    }


def test_bad_calls(digits: Any) -> None:
    with pytest.raises(CallError, match="paired"):
        compare(digits.samples, digits.samples[:700], digits.dataset, digits.extractors)
    with pytest.raises(CallError, match="shape"):
        compare(digits.samples[:, :, 1:], digits.samples[:, :, 1:], digits.dataset, digits.extractors)
    broken = digits.samples.copy()
    broken[7] = np.nan
    with pytest.raises(CallError, match="sample 7"):
        compare(digits.samples, broken, digits.dataset, digits.extractors)
    with pytest.raises(CallError, match="at least 50"):
        compare(digits.samples[:20], digits.samples[:20], digits.dataset, digits.extractors)
    with pytest.raises(CallError, match="labels"):
        compare(digits.samples, digits.samples, digits.dataset, digits.extractors, labels=digits.labels + 5)
