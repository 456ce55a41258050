from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from evaluation.vectors import Identity, vector_dataset

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation import EvaluateConfig, evaluate, kernel_distance, manifold
from niwaki.evaluation.feature_sets import FeatureSets
from niwaki.evaluation.measures import DEFAULT, check_metrics, measure, measures
from niwaki.evaluation.memorization.authenticity import authenticity
from niwaki.evaluation.metrics import gram
from niwaki.evaluation.metrics.cmmd import cmmd
from niwaki.evaluation.metrics.inception_score import inception_score
from niwaki.evaluation.metrics.mind import mind
from niwaki.evaluation.metrics.vendi import vendi_score
from niwaki.evaluation.statistics.samples import drawn_alike

MEMORY = {"authenticity", "copying_test", "mifid", "feature_likelihood", "feature_likelihood_gap"}


@pytest.fixture(scope="module")
def everything(digits: Any) -> Any:
    return evaluate(
        digits.samples[:300],
        digits.labels[:300],
        digits.dataset,
        digits.extractors,
        metrics=tuple(measures()),
    )


MOTION = {
    "temporal_consistency", "motion_error", "position_error", "frames_recognised", "same_all_along"
}  # fmt: skip
"""Of clips alone; `test_motion.py` has them."""

SERIES = {"autocorrelation_distance", "spectrum_distance", "discriminative_score", "predictive_score"}
"""Of series alone; `test_scenarios.py` has them."""

OTHERS = MOTION | SERIES


def test_every_metric_can_be_asked_for_and_stands_beside_its_floor(everything: Any) -> None:
    sets = {m for found in everything.metrics.values() for m in found}
    assert sets == {*measures(), "recognised"} - OTHERS
    assert {set_: set(why) for set_, why in everything.left_out.items()} == {"any features": OTHERS}
    for found in everything.metrics.values():
        for name, result in found.items():
            assert result.floor is not None, name
            assert np.isfinite(result.value), name
    assert "inception_score" not in everything.metrics["random"], "random features have no classes"
    assert list(everything.metrics["pixels"]) == ["ms_ssim", "modes_reached", "modes_divergence"]
    json.dumps(jsonable(everything), allow_nan=False)


def test_a_metric_is_what_its_function_gives_and_its_floor_what_training_samples_score(
    everything: Any, digits: Any
) -> None:
    extractor, dataset = digits.extractors[0], digits.dataset
    generated, real = extractor(digits.samples[:300]), extractor(dataset.test.values())
    train = extractor(dataset.train.values())
    reference = train[drawn_alike(dataset, digits.labels[:300], 300, 0)]
    found = everything.metrics["classifier"]
    assert found["mind"].value == pytest.approx(mind(real, generated).value, rel=1e-5)
    assert found["mind"].floor == pytest.approx(mind(real, reference).value, rel=1e-5)
    assert found["vendi"].value == pytest.approx(vendi_score(generated).value, rel=1e-5)
    assert found["vendi"].floor == pytest.approx(vendi_score(reference).value, rel=1e-5)
    shares = inception_score(extractor.probabilities_of(reference), seed=0)
    assert found["inception_score"].floor == pytest.approx(shares.value, rel=1e-5)
    # training samples would be copies of themselves: the floor of memory is what test samples score
    own = authenticity(train, generated, test=real)
    assert (found["authenticity"].value, found["authenticity"].floor) == (own.value, own.floor)
    assert found["authenticity"].floor > 0.2


def test_one_sweep_feeds_every_neighbour_and_kernel_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(90, 6)), 1.2 * rng.normal(size=(70, 6)) + 0.2
    train = rng.normal(size=(120, 6))
    sweeps = []
    whole = gram.gram_pass
    monkeypatch.setattr(gram, "gram_pass", lambda *a, **o: (sweeps.append(1), whole(*a, **o))[1])
    names = ("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage", "realism",
             "rarity", "kernel", "cmmd")  # fmt: skip
    out = measure(FeatureSets(real, generated, train[:70], train), names)
    assert len(sweeps) == 2, "one for the samples, one for their floor"
    alone = {
        **manifold(real, generated, 5).results(),
        "kernel": kernel_distance(real, generated),
        "cmmd": cmmd(real, generated),
    }
    floors = {
        **manifold(real, train[:70], 5).results(),
        "kernel": kernel_distance(real, train[:70]),
        "cmmd": cmmd(real, train[:70]),
    }
    for name in names:
        found, expected = out.found[name], alone[name]
        assert found.signature == expected.signature, name
        size = 1.0 if name not in ("kernel", "cmmd") else {"kernel": 30.0, "cmmd": 10.0}[name]
        tolerance = {"rel": 1e-12} if size == 1.0 else {"abs": 1e-8 * size}
        assert found.value == pytest.approx(expected.value, **tolerance), name
        assert found.floor == pytest.approx(floors[name].value, **tolerance), name
        np.testing.assert_allclose(found.per_sample, expected.per_sample, rtol=1e-10, atol=1e-7 * size)


def test_no_kernel_is_summed_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    asked = []
    whole = gram.gram_pass
    monkeypatch.setattr(gram, "gram_pass", lambda *a, **o: (asked.append(o["kernels"]), whole(*a, **o))[1])
    measure(FeatureSets(x[:30], x[30:], x[20:50], x), ("precision", "frechet"))
    assert asked == [[], []]


def test_copies_are_worse_than_the_floor_of_every_metric_of_memory(digits: Any) -> None:
    copies = digits.dataset.train.values()[:300]
    found = evaluate(
        copies, None, digits.dataset, digits.extractors[:1], metrics=("authenticity", "copying_test", "mifid")
    ).metrics["classifier"]
    assert found["authenticity"].value < 0.2 * found["authenticity"].floor
    assert found["copying_test"].value < -3
    assert found["mifid"].value > 100 * found["mifid"].floor


def test_only_what_was_asked_for_is_recorded(digits: Any) -> None:
    few = evaluate(digits.samples, None, digits.dataset, digits.extractors, metrics=("vendi", "frechet"))
    assert list(few.metrics["random"]) == ["vendi", "frechet"]
    assert few.to_json()["axes"] == {"fidelity": [], "diversity": ["vendi"], "both": ["frechet"]}
    assert few.per_class["3"]["coverage"]["random"] > 0.5, "coverage of the classes needs no asking"
    default = evaluate(digits.samples, None, digits.dataset, digits.extractors)
    assert set(default.metrics["random"]) == set(DEFAULT)


def test_what_features_do_not_allow_is_left_out_with_its_reason() -> None:
    rng = np.random.default_rng(0)
    real, train = rng.normal(size=(60, 4)), rng.normal(size=(80, 4))
    generated = rng.normal(size=(50, 4))
    generated[7] = 0.0
    sets = FeatureSets(real, generated, train[:50], train)
    out = measure(sets, ("cmmd", "frechet"))
    assert "all zeros" in out.left_out["cmmd"]
    assert list(out.found) == ["frechet"]
    generated[7] = np.nan
    with pytest.raises(CallError, match="NaN"):
        measure(sets, ("frechet",))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("frechett",), "there is no metric 'frechett'; did you mean 'frechet'?"),
        (("vendi", "vendi"), "each only once"),
        (("all", "vendi"), "name no other beside it"),
        ((), "at least one"),
        ("vendi", "must be a list"),
    ],
)
def test_wrong_names(names: Any, sentence: str) -> None:
    with pytest.raises(CallError, match=sentence.replace("?", r"\?")):
        check_metrics(names)
    if not isinstance(names, str):
        with pytest.raises(CallError, match=sentence.replace("?", r"\?")):
            EvaluateConfig(metrics=names)


def test_metrics_that_need_what_is_not_there() -> None:
    rng = np.random.default_rng(0)
    dataset = vector_dataset(rng, np.zeros((2, 6)), (120, 100, 100))
    x = rng.normal(size=(100, 6))
    with pytest.raises(CallError, match="needs the features 'classifier'"):
        evaluate(x, None, dataset, [Identity()], metrics=("inception_score",))
    with pytest.raises(CallError, match="compares images"):
        evaluate(x, None, dataset, [Identity()], metrics=("ms_ssim",))
    with pytest.raises(CallError, match="labels of every channel"):
        evaluate(x, None, dataset, [Identity()], metrics=("modes_reached",))


def test_all_are_those_that_the_data_and_the_extractors_allow() -> None:
    rng = np.random.default_rng(0)
    dataset = vector_dataset(rng, np.zeros((2, 6)), (120, 100, 100))
    found = evaluate(rng.normal(size=(100, 6)), None, dataset, [Identity()], metrics=("all",))
    told = set(found.metrics["identity"]) | set(found.left_out.get("identity", {}))
    of_images = {"inception_score", "ms_ssim", "modes_reached", "modes_divergence"}
    assert told == set(measures()) - of_images - OTHERS
    assert EvaluateConfig(metrics=["all"]).metrics == ("all",)
