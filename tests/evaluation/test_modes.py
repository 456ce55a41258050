"""How many modes samples reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation import evaluate
from niwaki.evaluation.metrics.modes import modes_reached
from niwaki.features import build, classifier
from niwaki.features.channels import ChannelClassifier, channel_labels, train_channel_classifier


def test_counts_and_divergence_in_closed_form() -> None:
    even = modes_reached(np.arange(40) % 8, 8)
    assert (even["modes_reached"].value, even["modes_divergence"].value) == (8, 0)
    one = modes_reached(np.full(30, 5), 8)
    assert one["modes_reached"].value == 1
    assert one["modes_divergence"].value == pytest.approx(np.log(8))
    two = modes_reached([0, 0, 0, 1], 8)  # ¾ log(¾·8) + ¼ log(¼·8)
    assert two["modes_divergence"].value == pytest.approx(0.75 * np.log(6) + 0.25 * np.log(2))
    assert two["modes_reached"].n == (0, 4)
    assert "kinds:8" in two["modes_reached"].signature


def test_what_n_fair_draws_miss_is_as_stated() -> None:
    rng = np.random.default_rng(0)
    found = [modes_reached(rng.integers(0, 1000, 4000), 1000) for _ in range(50)]
    reached = np.mean([f["modes_reached"].value for f in found])
    assert reached == pytest.approx(1000 - 1000 * np.exp(-4), abs=2)
    assert np.mean([f["modes_divergence"].value for f in found]) == pytest.approx(999 / 8000, rel=0.1)


@pytest.mark.parametrize("modes", [[], [0, 8], [-1, 2], [0.5, 1]])
def test_what_is_no_mode_is_refused(modes: Any) -> None:
    with pytest.raises(CallError):
        modes_reached(modes, 8)


def test_channels_have_labels_where_columns_bear_their_names() -> None:
    x, digit = ValueSpec("image", (2, 8, 8), names=("left", "right")), ValueSpec.label(10)
    assert channel_labels(DataSpec({"x": x, "left": digit, "right": digit})) == ("left", "right")
    assert channel_labels(DataSpec({"x": x, "left": digit})) == ()
    assert channel_labels(DataSpec({"x": x, "left": digit, "right": ValueSpec.label(4)})) == ()
    assert channel_labels(DataSpec({"x": ValueSpec("image", (2, 8, 8)), "left": digit, "right": digit})) == ()
    assert channel_labels(DataSpec({"x": x, "left": digit, "right": digit}, ("right",))) == ()


@pytest.fixture(scope="module")
def stacked(one_thread_session: None) -> Iterator[tuple[Dataset, ChannelClassifier]]:
    patch = pytest.MonkeyPatch()
    patch.setattr(classifier, "_steps", lambda n: 100)
    config = {"source": "stacked-digits", "samples": 4000, "labels": False}
    dataset = load(DataConfig.model_validate(config))
    yield dataset, train_channel_classifier(dataset)
    patch.undo()


def test_the_classifier_reads_stacks_as_their_mode(stacked: tuple[Dataset, ChannelClassifier]) -> None:
    dataset, read = stacked
    red, green, blue = (dataset.test.column(c).data.numpy() for c in ("red", "green", "blue"))
    right = read(dataset.test.values().numpy()) == 100 * red + 10 * green + blue
    assert read.kinds == 1000
    assert right.mean() > 0.6  # three of about 0.9; how well it can be trained is tested in tests/features
    assert len(read.classifier.accuracy) == 3


def test_the_metric_tells_a_collapse(stacked: tuple[Dataset, ChannelClassifier]) -> None:
    dataset, _ = stacked
    extractors = build(["random"], dataset)
    x = dataset.train.values().numpy()
    red = dataset.train.column("red").data.numpy()
    kept = x[red < 2]  # two of ten red digits: a fifth of the modes
    found = evaluate(kept, None, dataset, extractors, metrics=("modes_reached", "modes_divergence"))
    reached, divergence = (found.metrics["pixels"][m] for m in ("modes_reached", "modes_divergence"))
    assert reached.floor is not None
    assert 170 <= reached.value <= 300 < reached.floor
    assert divergence.value > np.log(5) * 0.8
    alone = evaluate(kept, None, dataset, extractors, metrics=("modes_reached",))
    assert list(alone.metrics["pixels"]) == ["modes_reached"]


def test_of_labelled_data_it_counts_classes(digits: Any) -> None:
    three = digits.samples[digits.labels < 3]
    found = evaluate(three, None, digits.dataset, digits.extractors, metrics=("modes_reached",))
    result = found.metrics["pixels"]["modes_reached"]
    assert 3 <= result.value <= 6
    assert result.floor == 10
