"""The judge `answers`, on Markov chains that answer prompts: every probability is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy

from niwaki.core.contract import CallError, ConditionSpec, DataSpec, Levels, Program, Tokens, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.equivalence.text_margins import frequencies
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.answers import Answers
from niwaki_runtime.samplers import Autoregressive

LEVELS, LENGTH, BEGIN, LAST = 12, 16, 6, 12
END = 11
X = ValueSpec("text", (LENGTH,), "T", Tokens(LEVELS, end=END))
PROMPT = ConditionSpec(ValueSpec("text", (LENGTH - 1,), "T", Tokens(LEVELS, end=END)), null=-1)
MASK = ValueSpec("mask", (LENGTH,), "T", Levels(2, 0.0, 1.0))
_RNG = np.random.default_rng(0)
CHAIN = _RNG.gamma(0.08, size=(LEVELS, LEVELS)) + 1e-5
CHAIN[:, END] = 1e-6
CHAIN /= CHAIN.sum(1, keepdims=True)


def chain(p: np.ndarray) -> Toy:
    sampler = Autoregressive(length=LENGTH, graph="next", prompt="prompt", stop=END)
    logits = np.log(p)
    return Toy(
        {"sample": Program(sampler, {"prompt": PROMPT}, X)}, {"next": lambda token, position: logits[token]}
    )


def split(n: int, seed: int, greedy: bool = False) -> Split:
    """Prompts of even tokens; then what the chain says, drawn or the most probable; END where it is over."""
    rng = np.random.default_rng(seed)
    x = np.full((n, LENGTH), END)
    x[:, :BEGIN] = rng.integers(0, LEVELS - 1, (n, BEGIN))
    for at in range(BEGIN, LAST):
        p = CHAIN[x[:, at - 1]]
        drawn = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, LEVELS - 2)
        x[:, at] = p.argmax(1) if greedy else drawn
    prompt = np.full((n, LENGTH - 1), -1)
    prompt[:, :BEGIN] = x[:, :BEGIN]
    mask = np.zeros((n, LENGTH))
    mask[:, BEGIN:LAST] = 1
    parts = [torch.from_numpy(a.astype(t)) for a, t in ((x, np.uint8), (mask, np.uint8), (prompt, np.int32))]
    spec = DataSpec({"x": X, "answers": MASK, "prompt": PROMPT.value})
    size = {"bytes": torch.full((n,), 2 * (LAST - BEGIN))}
    return Split.of(spec, parts[0], attributes=size, answers=parts[1], prompt=parts[2])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    train, validation, test = (split(n, i) for i, n in enumerate((500, 150, 250)))
    return Dataset(
        "chain", train.spec, train, validation, test, {"easy": split(60, 5, True)}, fingerprint="4" * 64
    )


def judge() -> Answers:
    return Answers(Tools(list))


def test_bits_are_those_of_the_answers_alone(dataset: Dataset) -> None:
    assert [j.name for j in judges_for(chain(CHAIN), dataset, Tools(list))] == ["answers"]
    evidence = judge().evidence(chain(CHAIN), dataset, "test", 1000, 0)
    section = judge().evaluate(evidence, dataset)
    x = dataset.test.x.numpy().astype(int)
    log_p = np.log(CHAIN[x[:, BEGIN - 1 : LAST - 1], x[:, BEGIN:LAST]])
    np.testing.assert_allclose(evidence.arrays["nats"], -log_p.sum(1), rtol=1e-5)
    assert section.figures[0].value == pytest.approx(
        -log_p.mean() / np.log(2) / 2, rel=1e-5
    )  # two bytes each
    assert section.details["perplexity"] == pytest.approx(np.exp(-log_p.mean()), rel=1e-5)
    share = frequencies(dataset.train.x.numpy()[:, BEGIN:LAST], LEVELS)
    blind = -np.log2(share[x[:, BEGIN:LAST]]).mean() / 2
    assert section.figures[0].reference == pytest.approx(blind, rel=1e-5)
    json.dumps(section.to_json(), allow_nan=False)


def test_its_own_answers_are_the_most_probable_and_counted_word_for_word(dataset: Dataset) -> None:
    evidence = judge().evidence(chain(CHAIN), dataset, "test", 1000, 0)
    section = judge().evaluate(evidence, dataset)
    made = evidence.arrays["made"]
    assert (made[:, :BEGIN] == dataset.test.x[: len(made), :BEGIN].numpy()).all()
    assert (made[:, BEGIN] == CHAIN[made[:, BEGIN - 1]].argmax(1)).all()
    assert section.details["right.easy"] == 0.0  # the chain never ends an answer itself
    by_place = np.log(CHAIN)[None].repeat(LENGTH, 0)
    by_place[LAST:, :, END] = 50.0
    ends = chain(CHAIN)
    ends._graphs["next"].function = lambda token, position: by_place[int(position[0])][token]
    section = judge().evaluate(judge().evidence(ends, dataset, "test", 1000, 0), dataset)
    assert section.details["right.easy"] == 1.0
    assert section.details["right"] < 0.5


def test_the_verdict_sees_what_is_lost_and_passes_what_is_not(dataset: Dataset) -> None:
    one = judge()
    found = one.margins(one.evidence(chain(CHAIN), dataset, "validation", 1000, 0), dataset, 250)
    assert Margins.from_json(found.to_json()).axes["fidelity"]["value"] > 0
    before = one.evidence(chain(CHAIN), dataset, "test", 1000, 0)
    uniform = np.full_like(CHAIN, 1 / LEVELS)
    words = []
    for amount in (0.0, 1e-5, 0.5):
        after = one.evidence(chain((1 - amount) * CHAIN + amount * uniform), dataset, "test", 1000, 0)
        words.append(one.compare(before, after, found, dataset).axes["fidelity"].outcome)
    assert words == ["no loss", "no loss", "loss"]


def test_few_conversations_are_refused(dataset: Dataset) -> None:
    small = Dataset("few", dataset.spec, dataset.train, dataset.validation, split(9, 3), fingerprint="1" * 64)
    with pytest.raises(CallError, match="9 conversations"):
        judge().evidence(chain(CHAIN), small, "test", 100, 0)
