"""Sets that share no noise: the variances against brute force, the p-value at the null, planted damage."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation import compare
from niwaki.evaluation.equivalence.unpaired import (
    _of_the_draw,
    draws,
    log_realism_difference,
    rarefied_coverage_difference,
)
from niwaki.evaluation.pairwise.neighbourhood import Neighbourhood, neighbourhood, rarefied_coverage


def places(
    seed: int, n: int, m: int, real: int = 30, d: int = 2
) -> list[tuple[Neighbourhood, Neighbourhood]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(real, d))
    return [(neighbourhood(x, rng.normal(size=(n, d))), neighbourhood(x, 0.8 * rng.normal(size=(m, d))))]


def delete_one(statistic: Any, n: int) -> float:
    values = np.array([statistic(np.arange(n) != j) for j in range(n)])
    return (n - 1) / n * float(((values - values.mean()) ** 2).sum())


def test_the_variances_are_delete_one_jackknives_of_both_sides() -> None:
    found = places(0, 40, 55)
    chosen = draws(40, 55, 9, np.random.default_rng(0))
    one = log_realism_difference(found, chosen)
    brute = sum(delete_one(lambda keep, p=p: p.log_realism[keep].mean(), len(p.claims)) for p in found[0])
    assert one.pair_variance == pytest.approx(brute, rel=1e-9)
    two = rarefied_coverage_difference(found, chosen, 15)
    brute = sum(
        delete_one(
            lambda keep, p=p: rarefied_coverage(p.counts(keep), int(keep.sum()), 15).mean(), len(p.claims)
        )
        for p in found[0]
    )
    assert two.pair_variance == pytest.approx(brute, rel=1e-9)


def test_the_draws_part_of_each_real_sample_is_its_own_jackknife() -> None:
    place = places(1, 40, 40)[0][0]
    brute = [
        delete_one(lambda keep, i=i: rarefied_coverage(place.counts(keep), int(keep.sum()), 15)[i], 40)
        for i in range(30)
    ]
    np.testing.assert_allclose(_of_the_draw(place, 15), brute, rtol=1e-9, atol=1e-15)


def test_the_p_values_count_the_draws() -> None:
    found = places(2, 20, 30)
    chosen = draws(20, 30, 50, np.random.default_rng(1))
    assert (chosen.sum(1) == 20).all()
    before, after = found[0]
    values = np.concatenate([before.log_realism, after.log_realism])
    claims = np.concatenate([before.claims, after.claims])
    larger = [0, 0]
    one, two = log_realism_difference(found, chosen), rarefied_coverage_difference(found, chosen, 10)
    for row in chosen:
        larger[0] += values[row].mean() - values[~row].mean() >= one.delta - 1e-12
        counts = [np.bincount(claims[side].ravel(), minlength=30) for side in (row, ~row)]
        larger[1] += (
            rarefied_coverage(counts[0], 20, 10).mean() - rarefied_coverage(counts[1], 30, 10).mean()
            >= two.delta - 1e-12
        )
    assert [one.p_value, two.p_value] == pytest.approx([(1 + hits) / 51 for hits in larger])


def test_exchanging_the_sides_negates_the_difference() -> None:
    found = places(3, 40, 55)
    turned = [(found[0][1], found[0][0])]
    chosen = draws(40, 55, 9, np.random.default_rng(0))
    other = draws(55, 40, 9, np.random.default_rng(0))
    for change, args in ((log_realism_difference, ()), (rarefied_coverage_difference, (15,))):
        first, second = change(found, chosen, *args), change(turned, other, *args)
        assert first.delta == pytest.approx(-second.delta, abs=1e-12)
        assert first.third == pytest.approx(-second.third, rel=1e-9)
        assert first.each == pytest.approx(second.each, rel=1e-9)


def test_the_p_value_is_uniform_where_both_come_from_one_model() -> None:
    rng = np.random.default_rng(4)
    p_values = []
    for _ in range(150):
        real = rng.normal(size=(40, 2))
        place = [
            (neighbourhood(real, rng.normal(size=(80, 2))), neighbourhood(real, rng.normal(size=(110, 2))))
        ]
        chosen = draws(80, 110, 99, rng)
        p_values.append(
            [
                log_realism_difference(place, chosen).p_value,
                rarefied_coverage_difference(place, chosen, 40).p_value,
            ]
        )
    for column in np.array(p_values).T:
        assert 0.40 < column.mean() < 0.60
        assert np.mean(column <= 0.1) < 0.19


def judge(digits: Any, after: np.ndarray, **options: Any) -> Any:
    return compare(
        digits.samples,
        after,
        digits.dataset,
        digits.extractors,
        labels=digits.labels,
        paired=False,
        **options,
    )


def test_another_draw_of_the_same_generator_is_no_loss(digits: Any) -> None:
    found = judge(digits, digits.others[:500])
    assert found.fidelity.outcome != "loss"
    assert found.diversity.outcome != "loss"
    assert min(found.fidelity.p_adjusted, found.diversity.p_adjusted) > 0.005
    assert (found.n, found.n_after) == (800, 500)
    assert found.fidelity.paired is False
    assert found.pairs is None
    assert found.common is None
    assert len(found.damage) == 0


def test_a_dropped_class_is_a_loss_of_diversity_alone_and_is_named(digits: Any) -> None:
    y = digits.dataset.train.y.numpy()
    flat = digits.dataset.train.values().numpy().reshape(len(y), -1)
    near = ((digits.others.reshape(800, -1)[:, None] - flat[None]) ** 2).sum(2).argmin(1)
    found = judge(digits, digits.others[y[near] != 3])
    assert found.diversity.outcome == "loss"
    assert found.fidelity.outcome != "loss"
    assert "'3'" in found.diversity.text
    assert found.per_class["3"]["after"] < 0.5 * found.per_class["3"]["before"]


def test_noise_is_a_loss_of_fidelity_alone(digits: Any) -> None:
    noise = np.random.default_rng(1).normal(size=digits.others.shape).astype(np.float32)
    found = judge(digits, digits.others + 0.25 * noise)
    assert found.fidelity.outcome == "loss"
    assert found.fidelity.p_adjusted < 0.01
    assert found.diversity.outcome != "loss"


def test_pairing_sees_more(digits: Any) -> None:
    noise = np.random.default_rng(1).normal(size=digits.samples.shape).astype(np.float32)
    after = digits.samples + 0.06 * noise
    alone = judge(digits, after)
    together = compare(digits.samples, after, digits.dataset, digits.extractors)
    assert alone.fidelity.delta == pytest.approx(together.fidelity.delta, abs=1e-9)
    assert alone.fidelity.margin == pytest.approx(together.fidelity.margin, abs=1e-12)
    width = [v.interval[1] - v.interval[0] for v in (alone.fidelity, together.fidelity)]
    assert width[0] > 2 * width[1]


def test_accuracy_fits_json_and_repeats(digits: Any) -> None:
    wrong = digits.labels[:600].copy()
    wrong[:150] = (wrong[:150] + 1) % 10
    found = [judge(digits, digits.samples[:600], labels_after=wrong, seed=3) for _ in range(2)]
    assert found[0].accuracy["delta"] == pytest.approx(0.25, abs=0.03)
    text = json.dumps(jsonable(found[0]), allow_nan=False)
    assert text == json.dumps(jsonable(found[1]))
    assert json.loads(text)["damage"] is None


def test_bad_calls(digits: Any) -> None:
    with pytest.raises(CallError, match="paired=False"):
        compare(digits.samples, digits.others[:500], digits.dataset, digits.extractors)
    with pytest.raises(CallError, match="labels_after"):
        compare(digits.samples, digits.others, digits.dataset, digits.extractors, labels_after=digits.labels)
    with pytest.raises(CallError, match="latents"):
        judge(digits, digits.others, latents=np.zeros((800, 3)))
