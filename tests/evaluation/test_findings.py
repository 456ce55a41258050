"""What an evaluation finds beside its numbers, on vectors with known modes and a known attribute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.vectors import Identity, vector_dataset

from niwaki.evaluation import evaluate
from niwaki.evaluation.judges import findings as findings_module
from niwaki.evaluation.judges import recognising
from niwaki.evaluation.judges.findings import findings, fitness

RNG = np.random.default_rng(0)
CENTRES = 8 * RNG.normal(size=(6, 6))


@pytest.fixture(scope="module")
def dataset() -> Any:
    """Six modes; the attribute says in which half a mode is."""
    made = vector_dataset(np.random.default_rng(1), CENTRES, (700, 200, 600))
    made.attribute_names = {"half": ("first", "second")}
    for split in made.splits.values():
        split.attributes["half"] = (split.y >= 3).long()
    return made


def draw(modes: np.ndarray) -> np.ndarray:
    return (CENTRES[modes] + np.random.default_rng(2).normal(size=(len(modes), 6))).astype(np.float32)


def found_in(x: np.ndarray, dataset: Any, labels: Any = None) -> dict[str, Any]:
    extractors = [Identity()]
    evaluation = evaluate(x, labels, dataset, extractors, metrics=("frechet",))
    found = findings(x, labels, evaluation, dataset, extractors)
    json.dumps(found, allow_nan=False)
    return found


def test_a_lost_mode_and_what_goes_with_it_are_named(dataset: Any) -> None:
    modes = np.random.default_rng(3).integers(0, 5, 600)  # the last one is never made
    found = found_in(draw(modes), dataset, modes)
    clusters = found["clusters"]
    lost = [c for c in clusters["clusters"] if c["index"] in clusters["dropped"]]
    assert lost
    assert all(c["name"].endswith("% class 5)") for c in lost)
    assert "signature" in clusters
    assert "signature" not in lost[0]["ratio"]
    shifts = {(s["attribute"], s["name"]): s for s in found["bias"]["shifts"]}
    assert shifts["class", "5"]["clear"]
    second = shifts["half", "second"]
    assert second["clear"]
    assert second["generated"] == pytest.approx((modes >= 3).mean(), abs=0.01)
    assert found["bias"]["recognised"]["half"]["accuracy"] > 0.97
    assert found["bias"]["recognised"]["class"]["by"] == "what was asked for"
    assert found["gate"]["passed"] is True


def test_a_lost_mode_is_told_with_samples_that_show_it(dataset: Any) -> None:
    modes = np.random.default_rng(3).integers(0, 5, 600)  # the class 5 is never made
    x = draw(modes)
    found = found_in(x, dataset, modes)["modes"]
    assert found["features"] == "identity"
    assert found["looked_at"]["class"] == 6
    by_kind = {kind: [m for m in found["found"] if m["kind"] == kind] for kind in ("cluster", "class")}
    assert [m["name"] for m in by_kind["class"]] == ["5"]
    assert len(by_kind["cluster"]) >= 1
    test, y = dataset.test.values().numpy(), dataset.test.y.numpy()
    own = np.sqrt(((test[:, None] - test) ** 2).sum(-1))
    radius = np.sort(own, axis=1)[:, 5]  # itself is the first
    for mode in found["found"]:
        assert mode["lost"] is True
        assert mode["interval"][0] <= mode["ratio"] <= mode["interval"][1] < 0.5
        assert (y[mode["real"]] == 5).all()
        assert len(mode["real"]) == len(mode["nearest"]) == len(mode["apart"]) == 6
        for i, j, apart in zip(mode["real"], mode["nearest"], mode["apart"], strict=True):
            distance = np.linalg.norm(x - test[i], axis=1)
            assert distance.argmin() == j
            assert apart == pytest.approx(distance.min() / radius[i], rel=1e-4)
    (lost,) = by_kind["class"]
    assert lost["ratio"] == pytest.approx(lost["made"] / lost["share"])
    assert all(apart >= 1 for apart in lost["apart"]), "what is covered does not show what is lost"


def test_a_reduced_mode_is_not_called_lost(dataset: Any) -> None:
    """0.65 of what it should be, of 5400 samples: certainly too little, certainly more than half."""
    share = np.array([1, 1, 1, 1, 1, 0.65])
    modes = np.random.default_rng(3).choice(6, 5400, p=share / share.sum())
    test = np.random.default_rng(4).integers(0, 6, 5400)
    made = vector_dataset(np.random.default_rng(5), CENTRES, (5400, 200, 5400))
    made.test.y[:] = torch.from_numpy(test)
    made.test.x[:] = torch.from_numpy(draw(test))
    found = found_in(draw(modes), made)["modes"]["found"]
    clusters = [m for m in found if m["kind"] == "cluster"]
    assert clusters
    assert not any(m["lost"] for m in found)
    assert all("class 5" in m["name"] for m in clusters)


def test_nothing_is_found_in_a_perfect_model(dataset: Any) -> None:
    found = found_in(draw(np.random.default_rng(3).integers(0, 6, 600)), dataset)
    assert found["clusters"]["dropped"] == []
    assert found["modes"]["found"] == []
    assert not any(s["clear"] for s in found["bias"]["shifts"])
    assert {s["attribute"] for s in found["bias"]["shifts"]} == {"half"}, "nobody can tell the class"


def test_copies_do_not_pass_the_gate(dataset: Any) -> None:
    found = found_in(dataset.train.values()[:200].numpy(), dataset)
    assert found["gate"]["passed"] is False
    assert found["gate"]["identical"] == 200


def test_distances_to_originals_have_a_scale(dataset: Any) -> None:
    """The median distance of a test sample to the training sample nearest to it."""
    found = found_in(draw(np.random.default_rng(3).integers(0, 6, 600)), dataset)
    test, train = dataset.test.values().numpy(), dataset.train.values().numpy()
    by_hand = np.sqrt(((test[:, None] - train) ** 2).sum(-1)).min(1)
    assert found["gate"]["usual"] == pytest.approx(
        np.sort(by_hand)[299], rel=1e-5
    )  # the lower of the middle two
    assert found["gate"]["features"] == "identity"


def test_fitness_is_found_out_once(dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fitness(dataset, [Identity()], cache=tmp_path)
    assert first["identity"]["fit"] is True, first["identity"]["text"]
    monkeypatch.setattr(findings_module, "_check", lambda *_: pytest.fail("it was known"))
    assert fitness(dataset, [Identity()], cache=tmp_path) == first
    monkeypatch.undo()
    file = next((tmp_path / "fitness").iterdir())
    file.write_text("{")
    assert fitness(dataset, [Identity()], cache=tmp_path) == first, "made again"


def test_too_few_samples_for_ladders_are_no_error() -> None:
    small = vector_dataset(np.random.default_rng(1), CENTRES, (60, 20, 60))
    found = fitness(small, [Identity()], cache=None)
    assert found["identity"]["fit"] is None
    assert "too few for ladders" in found["identity"]["text"]


def test_votes_are_of_the_nearest_training_samples() -> None:
    train = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [5.0], [5.1], [5.2], [5.3], [5.4]])
    known = torch.tensor([2, 2, 2, 0, 0, 1, 1, 0, 0, 1])
    assert recognising._vote(np.array([[0.2], [5.2]]), train, known).tolist() == [2, 1]


def test_findings_are_about_the_split_that_is_judged_by(dataset: Any) -> None:
    """What is chosen on the validation split must know nothing of the test split."""
    import copy

    modes = np.random.default_rng(3).integers(0, 5, 200)
    other = copy.copy(dataset)
    other.test = dataset.train.select(torch.arange(40))
    x, found = draw(modes), []
    for data in (dataset, other):
        extractors = [Identity()]
        evaluation = evaluate(x, modes, data, extractors, metrics=("frechet",), split="validation")
        found.append(findings(x, modes, evaluation, data, extractors))
    assert json.dumps(found[0]) == json.dumps(found[1])
    real = [i for mode in found[0]["modes"]["found"] for i in mode["real"]]
    assert real
    assert max(real) < len(dataset.validation)
