"""The judge `predictions`, on Markov chains: every conditional distribution is known."""

from __future__ import annotations

import json
import lzma

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy

from niwaki.core.contract import CallError, ConditionSpec, DataSpec, Program, Tokens, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.equivalence.text_margins import frequencies, text_margins
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.predictions import Predictions
from niwaki.evaluation.metrics.dictionary_coder import xz_bits_per_byte
from niwaki_runtime.samplers import Autoregressive, OneShot

LEVELS, LENGTH = 40, 24
X = ValueSpec("text", (LENGTH,), "T", Tokens(LEVELS))
_RNG = np.random.default_rng(0)
CHAIN = _RNG.gamma(0.3, size=(LEVELS, LEVELS)) + 1e-4
CHAIN /= CHAIN.sum(1, keepdims=True)


def chain(p: np.ndarray) -> Toy:
    """Token after token by the rows of `p`."""
    logits = np.log(p)
    program = Program(Autoregressive(length=LENGTH, graph="next"), {}, X)
    return Toy({"sample": program}, {"next": lambda token, position: logits[token]})


def drawn(n: int, seed: int) -> np.ndarray:
    return np.asarray(chain(CHAIN).sample(n, seed=seed))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    spec = DataSpec({"x": X})
    parts = []
    for n, seed in ((600, 1), (150, 2), (250, 3)):
        x = torch.from_numpy(drawn(n, seed).astype(np.uint8))
        parts.append(Split.of(spec, x, attributes={"bytes": torch.full((n,), LENGTH)}))
    return Dataset("chain", spec, *parts, fingerprint="4" * 64)


def judge() -> Predictions:
    return Predictions(Tools(list))


def entropy_rate() -> float:
    """Bits per token of the chain, from the uniform start over its stationary distribution."""
    pi = np.linalg.matrix_power(CHAIN, 500)[0]
    return float(-(pi[:, None] * CHAIN * np.log2(CHAIN)).sum())


def test_bits_are_those_of_the_chain(dataset: Dataset) -> None:
    assert [j.name for j in judges_for(chain(CHAIN), dataset, Tools(list))] == ["predictions"]
    evidence = judge().evidence(chain(CHAIN), dataset, "test", 1000, 0)
    section = judge().evaluate(evidence, dataset)
    tokens = dataset.test.x.numpy().astype(int)
    before = np.concatenate([np.zeros((len(tokens), 1), int), tokens[:, :-1]], 1)
    np.testing.assert_allclose(evidence.arrays["log_p"], np.log(CHAIN[before, tokens]), rtol=1e-6)
    low, high = section.figures[0].interval or (0, 0)
    assert low - 0.02 < entropy_rate() < high + 0.02
    share = frequencies(dataset.train.x.numpy(), LEVELS)
    assert section.details["references"]["order_0"] == pytest.approx(-np.log2(share[tokens]).mean())
    assert section.details["references"]["order_0"] > section.figures[0].value + 0.3
    assert section.details["references"]["xz_with_train"] > 0
    assert len(section.details["samples"]["text"]) == 8
    assert section.figures[0].name == "bits per byte"
    assert section.details["exhibits"][0]["media"][0]["data"] == section.details["samples"]["text"][0]
    json.dumps(section.to_json(), allow_nan=False)


def test_samples_of_the_chain_are_as_varied_as_real_windows(dataset: Dataset) -> None:
    section = judge().evaluate(judge().evidence(chain(CHAIN), dataset, "test", 200, 0), dataset)
    varied = next(f for f in section.figures if f.name.startswith("different pairs"))
    assert varied.value == pytest.approx(varied.reference, abs=0.06)


def test_where_axes_alone_are_asked_for_nothing_is_sampled_and_both_are_the_same(dataset: Dataset) -> None:
    alone = Predictions(Tools(list, axes_alone=True))
    before, after = chain(CHAIN), chain(0.9 * CHAIN + 0.1 / LEVELS)
    found = []
    for one in (judge(), alone):
        a, b = (one.evidence(runner, dataset, "test", 200, 0) for runner in (before, after))
        margins = one.margins(one.evidence(before, dataset, "validation", 200, 0), dataset, 200)
        assert ("samples" in a.arrays) == (one is not alone)
        found.append(one.compare(a, b, margins, dataset).axes)
    assert found[0] == found[1]
    assert alone.samples_made(200) == 0


@pytest.mark.parametrize(("length", "windows"), [(24, 400), (64, 256), (128, 128), (256, 64), (1024, 64)])
def test_a_choice_rests_on_as_many_predictions_whatever_the_length_of_a_window(
    length: int, windows: int
) -> None:
    spec = DataSpec({"x": ValueSpec("text", (length,), "T", Tokens(LEVELS))})
    empty = Split.of(spec, torch.zeros((1, length), dtype=torch.uint8))
    data = Dataset("none", spec, empty, empty, empty, fingerprint="5" * 64)
    assert judge().fewest(data) == windows


def test_margins_are_those_of_all_distributions_at_once(dataset: Dataset) -> None:
    one = judge()
    evidence = one.evidence(chain(CHAIN), dataset, "validation", 1000, 0)
    found = one.margins(evidence, dataset, 250)
    tokens = dataset.validation.x.numpy().astype(int)
    before = np.concatenate([np.zeros((len(tokens), 1), int), tokens[:, :-1]], 1)
    share = frequencies(dataset.train.x.numpy(), LEVELS)
    slow = text_margins([(tokens, np.log(CHAIN)[before])], share, n=250)
    for axis, margin in slow.items():
        assert found.axes[axis]["value"] == pytest.approx(margin.value)
        assert found.axes[axis]["noise"] == pytest.approx(margin.noise)


def test_planted_damage_is_found_and_the_same_model_loses_nothing(dataset: Dataset) -> None:
    one = judge()
    margins = one.margins(one.evidence(chain(CHAIN), dataset, "validation", 1000, 0), dataset, 250)
    margins = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    before = one.evidence(chain(CHAIN), dataset, "test", 1000, 0)
    same = one.compare(before, one.evidence(chain(CHAIN), dataset, "test", 1000, 0), margins, dataset)
    assert {v.outcome for v in same.axes.values()} == {"no loss"}
    noisy = one.evidence(chain(0.6 * CHAIN + 0.4 / LEVELS), dataset, "test", 1000, 0)
    lost = one.compare(before, noisy, margins, dataset)
    assert lost.axes["fidelity"].outcome == "loss"
    assert lost.arrays["rise"].mean() == pytest.approx(lost.axes["fidelity"].delta)
    cold = CHAIN**3 / (CHAIN**3).sum(1, keepdims=True)
    colder = one.compare(before, one.evidence(chain(cold), dataset, "test", 1000, 0), margins, dataset)
    assert colder.axes["diversity"].outcome == "loss"
    assert set(lost.details["figures"]) >= {"distinct_1", "distinct_2", "repetition_4", "samples"}
    json.dumps(lost.to_json(), allow_nan=False)


def test_classes_are_those_of_the_rows() -> None:
    """Two chains, one for each class: read with the other's class, the text is far less probable."""
    other = CHAIN[:, ::-1]
    both = np.log(np.stack([CHAIN, other]))
    spec = DataSpec({"x": X, "class": ValueSpec.label(2)})
    program = Program(
        Autoregressive(length=LENGTH, graph="next", conditions=("class",)),
        {"class": ConditionSpec.label(2)},
        X,
    )
    runner = Toy({"sample": program}, {"next": lambda token, position, label: both[label, token]})
    y = np.arange(60) % 2
    x = np.asarray(runner.sample(60, seed=0, condition=y))
    bits = []
    for label in (y, 1 - y):
        split = Split.of(spec, torch.from_numpy(x), torch.from_numpy(label))
        data = Dataset("two", spec, split, split, split, fingerprint="5" * 64)
        section = judge().evaluate(judge().evidence(runner, data, "test", 60, 0), data)
        assert section.figures[0].name == "bits per token"
        assert "xz" not in section.details["references"]
        bits.append(section.figures[0].value)
    assert bits[0] < bits[1] - 1
    bare = DataSpec({"x": X})
    plain = Split.of(bare, torch.from_numpy(x))
    data = Dataset("bare", bare, plain, plain, plain)
    with pytest.raises(CallError, match="do not say which"):
        judge().evidence(runner, data, "test", 60, 0)


def test_what_cannot_be_read_is_refused(dataset: Dataset) -> None:
    assert OneShot().forced({}, np.zeros((1, 2)), None) is None  # type: ignore[arg-type]
    assert not OneShot().forceable
    small = Dataset(
        "small", dataset.spec, dataset.train, dataset.validation, dataset.test.select(torch.arange(5))
    )
    with pytest.raises(CallError, match="has 5 windows; 20 are needed"):
        judge().evidence(chain(CHAIN), small, "test", 100, 0)
    few = Program(Autoregressive(length=LENGTH), {}, ValueSpec("text", (LENGTH,), "T", Tokens(7)))
    with pytest.raises(CallError, match="40 tokens, the model 7"):
        judge().evidence(Toy({"sample": few}, {}), dataset, "test", 100, 0)


def test_xz_is_that_of_the_library_and_knows_what_came_before() -> None:
    text = bytes(np.random.default_rng(0).integers(0, 256, 2000).astype(np.uint8))
    assert xz_bits_per_byte(text) == pytest.approx(8 * len(lzma.compress(text, preset=9)) / 2000)
    assert xz_bits_per_byte(text) > 8
    assert xz_bits_per_byte(text, text) < 0.3
