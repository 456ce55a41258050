from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features.toys import toy

from niwaki.core.contract import CallError
from niwaki.data import Dataset
from niwaki.features import Classifier, available, build, classifier, fitting
from niwaki.features.classifier import ClassifierNetwork
from niwaki.nn.augment.draws import shifted


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(digits: Dataset, cache: Path) -> Classifier:
    torch.set_num_threads(1)
    (made,) = build(["classifier"], digits, cache=cache)
    assert isinstance(made, Classifier)
    return made


def test_it_knows_held_out_digits_and_is_small(trained: Classifier) -> None:
    assert trained.accuracy["test"] >= 0.985
    assert set(trained.accuracy) == {"train", "validation", "test"}
    assert sum(p.numel() for p in trained.network.parameters()) < 100_000


def test_the_reported_accuracy_is_that_of_its_answers(trained: Classifier, digits: Dataset) -> None:
    answers = trained.probabilities(digits.test.values())
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    assert (answers.argmax(1) == digits.test.y.numpy()).mean() == trained.accuracy["test"]
    z = trained(digits.test.values())
    np.testing.assert_allclose(trained.probabilities_of(z), answers, atol=1e-5)
    assert z.shape == (len(digits.test), trained.dim)


def test_from_the_cache_it_comes_without_training(
    trained: Classifier, digits: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(fitting, "_fit", refuse)
    (again,) = build(["classifier"], digits, cache=cache)
    assert again.fingerprint == trained.fingerprint
    assert again.accuracy == trained.accuracy
    with pytest.raises(AssertionError, match="trained again"):
        build(["classifier"], digits, cache=cache, seed=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 40), (6,), (4, 1, 8, 8), "text"])
def test_every_kind_of_sample_deterministically(
    shape: tuple[int, ...] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_steps", lambda n: 40)
    dataset = toy(shape)
    heard: list[tuple[str, int, int]] = []
    (first,) = build(["classifier"], dataset, progress=lambda *event: heard.append(event))
    (second,) = build(["classifier"], dataset)
    assert first.fingerprint == second.fingerprint
    assert first.accuracy["test"] > 0.9
    assert heard[-1] == ("classifier", 40, 40)


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "_steps", lambda n: 5)
    dataset = toy((4,))
    (first,) = build(["classifier"], dataset, cache=tmp_path)
    (weights,) = [f for f in (tmp_path / "features").iterdir() if f.name.count("-") == 1]
    weights.write_bytes(b"broken")
    (again,) = build(["classifier"], dataset, cache=tmp_path)
    assert again.fingerprint == first.fingerprint


def test_without_labels_it_is_refused() -> None:
    dataset = toy((1, 8, 8), classes=0)
    assert "classifier" not in available(dataset)
    assert "random" in available(dataset)
    with pytest.raises(CallError, match="at least two classes"):
        build(["classifier"], dataset)


def test_shifts_are_whole_and_repeat_the_edge() -> None:
    x = torch.arange(2 * 5 * 5, dtype=torch.float32).reshape(2, 1, 5, 5).repeat(40, 1, 1, 1)
    rng = torch.Generator().manual_seed(0)
    moved = shifted(shifted(x, 2, 2, rng), 3, 2, rng)
    seen = set()
    for before, after in zip(x, moved, strict=True):
        fits = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                rows = (torch.arange(5) + dy).clamp(0, 4)
                columns = (torch.arange(5) + dx).clamp(0, 4)
                if torch.equal(before[:, rows][:, :, columns], after):
                    fits.append((dy, dx))
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 15


def test_every_parameter_receives_a_gradient() -> None:
    from niwaki.core.contract import Batch, Context

    dataset = toy((1, 12, 12))
    network = ClassifierNetwork(dataset.spec)
    context = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))
    batch = Batch({"x": dataset.train.values(), "class": dataset.train.y})
    network.loss("classify", batch, context)["cross_entropy"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
