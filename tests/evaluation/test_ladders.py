"""Ladders of known damage: extractors that see it are fit, those that are blind to it are not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from evaluation.vectors import Identity, vector_dataset

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.store import jsonable
from niwaki.data import Dataset
from niwaki.evaluation.extractor_checks.fitness import judge_curve
from niwaki.evaluation.extractor_checks.ladders import STRENGTHS, check_extractor, corrupt
from niwaki.features import build


class Constant(Identity):
    name = "constant"

    def __call__(self, x: Any, batch: int = 256) -> np.ndarray:
        return np.ones((len(x), 4), np.float32)


class Dice(Identity):
    """Features that have nothing to do with what is in the sample."""

    name = "dice"

    def __call__(self, x: Any, batch: int = 256) -> np.ndarray:
        total = np.abs(np.asarray(x, dtype=np.float64).reshape(len(x), -1)).sum(1)
        return np.sin(1e6 * total[:, None] * np.arange(1, 7)).astype(np.float32)


class OneCoordinate(Identity):
    """Sees the first coordinate alone."""

    name = "one"

    def __call__(self, x: Any, batch: int = 256) -> np.ndarray:
        return np.asarray(x, dtype=np.float32).reshape(len(x), -1)[:, :1]


@pytest.fixture(scope="module")
def modes() -> Dataset:
    rng = np.random.default_rng(0)
    return vector_dataset(rng, 6 * rng.normal(size=(10, 6)), (800, 200, 100))


def test_a_curve_is_judged_by_its_own_noise() -> None:
    noise = np.array([[0.1], [-0.1], [0.0]]) * np.ones(
        5
    )  # of the undamaged step: 0.1; no step turns back for it
    noise[:, 4] += [0.1, -0.1, 0.0]  # differences from the last step have a deviation of 0.1

    def judged(values: list[float], metric: str = "frechet", kind: str = "modes", scale: float = 1.0) -> Any:
        return judge_curve(np.array(values) + scale * noise, metric, kind)

    assert judged([0, 1, 2, 2.9, 2.75]).passed  # behind by 0.15 < 2 · 0.1
    assert not judged([0, 1, 2, 2.9, 2.65]).monotone
    assert judged([0, 1, 2, 2.9, 2.8], scale=0).monotone  # certain, but not 5 % of the span
    assert not judged([0, 1, 2, 2.9, 2.7], scale=0).monotone
    assert not judged([0, 0.1, 0.2, 0.2, 0.28]).noticed
    assert judged([0, 0.1, 0.2, 0.2, 0.32]).noticed
    assert not judged([0, 0.1, 0.2, 0.2, 0.05], scale=1).noticed  # not in every repeat
    assert judged([0, 0.1, 0.2, 0.2, 0.01], scale=0).noticed
    falling = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert not judged(falling).monotone
    assert judged(falling, "rarefied_coverage").passed  # damage lowers it
    assert judged([1.0] * 5, "precision").passed  # not its task
    assert not judged([1.0] * 5, "precision", "corruption").passed


def test_features_that_hold_everything_are_fit(modes: Dataset) -> None:
    found = check_extractor(Identity(), modes)
    assert found.fit, found.text
    assert [ladder.name for ladder in found.ladders] == ["noise", "contrast", "modes", "copies"]
    covered = found.ladders[2].curves["rarefied_coverage"].values
    np.testing.assert_allclose(covered, [covered[0] * (1 - s) for s in found.ladders[2].strengths], atol=0.08)
    close = found.ladders[3].curves["close"].values
    np.testing.assert_allclose(close, found.ladders[3].strengths, atol=0.02, rtol=0.2)
    flat = found.ladders[2].curves["log_realism"].values  # fidelity stays where modes are dropped
    assert np.ptp(flat) < 0.15


@pytest.mark.parametrize("extractor", [Constant(), Dice(), OneCoordinate()], ids=lambda e: e.name)
def test_blind_features_are_unfit_and_the_sentence_says_why(extractor: Any, modes: Dataset) -> None:
    found = check_extractor(extractor, modes)
    assert not found.fit
    assert found.text.startswith(f"'{extractor.name}' is unfit: ")
    if extractor.name == "constant":
        assert "the same for all samples" in found.text
    else:
        assert any(not ladder.passed for ladder in found.ladders)


def test_dice_fail_on_every_corruption(modes: Dataset) -> None:
    failed = {ladder.name for ladder in check_extractor(Dice(), modes).ladders if not ladder.passed}
    assert failed >= {"noise", "contrast", "modes"}


@pytest.mark.slow
def test_the_classifier_is_fit_for_digits(digits: Any) -> None:
    found = check_extractor(digits.extractors[0], digits.dataset)
    assert found.fit, found.text
    assert [ladder.name for ladder in found.ladders] == ["blur", "noise", "contrast", "modes", "copies"]


@pytest.mark.slow
def test_repeats_exactly_and_fits_json(modes: Dataset) -> None:
    first, again, other = (check_extractor(Identity(), modes, seed=seed) for seed in (0, 0, 1))
    assert json.dumps(jsonable(first), allow_nan=False) == json.dumps(jsonable(again))
    assert first.ladders != other.ladders


@pytest.mark.slow
def test_random_features_need_their_sphere(digits: Any) -> None:
    """Without it blurred digits move to the middle of the cloud and count as better than real ones."""
    extractor = build(["random"], digits.dataset)[0]
    assert check_extractor(extractor, digits.dataset).fit
    extractor.network.on_sphere = False
    extractor._kept.clear()  # features of whole splits, which were on the sphere
    found = check_extractor(extractor, digits.dataset)
    assert not found.fit
    assert "blur (log_realism" in found.text


@pytest.mark.parametrize("name", STRENGTHS)
def test_damage_grows_with_its_strength(name: str, digits: Any) -> None:
    x, spec = digits.samples[:50], digits.dataset.spec
    if name == "order":  # which only clips have
        x = np.stack([np.roll(x, 7 * t, 0) for t in range(4)], 1)
        spec = DataSpec.of("video", x.shape[1:], levels=17)
    far = []
    for strength in STRENGTHS[name][0]:
        changed = corrupt(x, name, strength, spec, np.random.default_rng(0))
        assert changed.shape == x.shape
        assert changed.dtype == np.float32
        far.append(float(np.abs(changed - x).mean()))
    assert far[0] == 0
    assert (np.diff(far) > 0).all()


def test_bad_calls(modes: Dataset) -> None:
    with pytest.raises(CallError, match="another split"):
        check_extractor(Identity(), modes, split="train")
    with pytest.raises(CallError, match="no split"):
        check_extractor(Identity(), modes, split="vaildation")
    small = vector_dataset(np.random.default_rng(0), np.zeros((2, 6)), (100, 30, 30))
    with pytest.raises(CallError, match="too few"):
        check_extractor(Identity(), small)
