"""BLEU, ROUGE, MAUVE and memorised spans against hand-made values, slow references and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.bleu import bleu, self_bleu
from niwaki.evaluation.metrics.mauve import frontier_area, mauve
from niwaki.evaluation.metrics.memorised_spans import memorised_spans
from niwaki.evaluation.metrics.rouge import rouge_l, rouge_n

RNG = np.random.default_rng(0)


def words(text: str) -> list[str]:
    return text.split()


def test_bleu_of_the_paper() -> None:
    """Papineni et al. 2002, Examples 2 and 1."""
    references = [words("the cat is on the mat"), words("there is a cat on the mat")]
    assert bleu([words("the the the the the the the")], [references], order=1).value == pytest.approx(2 / 7)
    first = "It is a guide to action which ensures that the military always obeys the commands of the party"
    truths = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the command "
        "of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    found = bleu([words(first)], [[words(t) for t in truths]], order=4).value
    assert found == pytest.approx((17 / 18 * 10 / 17 * 7 / 16 * 4 / 15) ** 0.25)


def test_bleu_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = [[f"w{k}" for k in RNG.integers(0, 6, RNG.integers(5, 30))] for _ in range(20)]
    truths = [[f"w{k}" for k in RNG.integers(0, 6, RNG.integers(5, 30))] for _ in range(20)]
    theirs = sacrebleu.corpus_bleu(
        [" ".join(t) for t in texts], [[" ".join(t) for t in truths]], tokenize="none", smooth_method="none"
    )
    assert bleu(texts, [[t] for t in truths]).value == pytest.approx(theirs.score / 100)


def test_short_texts_pay_and_texts_without_a_match_have_none() -> None:
    assert bleu([list("abcd")], [[list("abcdefgh")]]).value == pytest.approx(math.exp(1 - 2))
    assert bleu([list("abcd")], [[list("efgh")]]).value == 0.0
    with pytest.raises(CallError):
        bleu([list("ab")], [])


def test_self_bleu_is_bleu_against_all_others() -> None:
    rows = RNG.integers(0, 3, (8, 12))
    found = self_bleu(rows, order=2, smoothing=0.1)
    texts = [row.tolist() for row in rows]
    for i, text in enumerate(texts):
        slow = bleu([text], [[t for j, t in enumerate(texts) if j != i]], order=2).value
        assert found.per_sample is not None
        assert found.per_sample[i] == pytest.approx(slow)
    assert self_bleu(np.tile(rows[:1], (5, 1))).value == pytest.approx(1.0)
    distinct = np.arange(40).reshape(4, 10)
    assert self_bleu(distinct, order=2).value == pytest.approx((0.1 / 10 * 0.1 / 9) ** 0.5)


def test_rouge_by_hand() -> None:
    text, truth = words("police kill the gunman"), words("police killed the gunman")
    assert rouge_l([text], [truth]).value == pytest.approx(3 / 4)  # Lin 2004, Section 3
    assert rouge_n([text], [truth], n=2).value == pytest.approx(1 / 3)
    assert rouge_n([text], [text], n=1).value == rouge_l([text], [text]).value == 1.0
    assert rouge_l([[]], [truth]).value == 0.0
    with pytest.raises(CallError):
        rouge_l([text], [])


def test_rouge_is_the_other_packages() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    texts = [[f"w{k}" for k in RNG.integers(0, 6, RNG.integers(5, 30))] for _ in range(20)]
    truths = [[f"w{k}" for k in RNG.integers(0, 6, RNG.integers(5, 30))] for _ in range(20)]
    theirs = scorer.RougeScorer(["rouge2", "rougeL"])
    each = [theirs.score(" ".join(b), " ".join(a)) for a, b in zip(texts, truths, strict=True)]
    assert rouge_n(texts, truths, n=2).value == pytest.approx(np.mean([s["rouge2"].fmeasure for s in each]))
    assert rouge_l(texts, truths).value == pytest.approx(np.mean([s["rougeL"].fmeasure for s in each]))


def test_the_frontier_of_known_distributions() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert frontier_area(p, p) == pytest.approx(1.0, abs=1e-6)
    # Disjoint: the curve is x = (1 − λ)^c, y = λ^c, whose area is Γ(c+1)²/Γ(2c+1).
    for c in (1.0, 2.0, 5.0):
        expected = math.gamma(c + 1) ** 2 / math.gamma(2 * c + 1)
        assert frontier_area(p, q, c) == pytest.approx(expected, rel=0.05, abs=1e-3)
    mixed = 0.5 * (p + q)
    assert frontier_area(p, mixed) == pytest.approx(frontier_area(mixed, p))


def test_mauve_knows_equal_from_different() -> None:
    a, b = RNG.standard_normal((400, 5)), RNG.standard_normal((400, 5))
    near, far = mauve(a, b, seeds=3), mauve(a, b + 6.0, seeds=3)
    assert near.value > 0.9 > 0.1 > far.value
    assert near.interval is not None
    assert near.interval[0] <= near.value <= near.interval[1]
    some = np.concatenate([b[:200], b[200:] + 6.0])
    assert far.value < mauve(a, some, seeds=3).value < near.value


@pytest.mark.parametrize("width", [3, 40])
def test_spans_are_the_longest_common_passages(width: int) -> None:
    train, rows = RNG.integers(0, 4, (20, 30)), RNG.integers(0, 4, (50 if width == 3 else 6, width))
    rows[0] = np.resize(train.reshape(-1)[25 : 25 + width], width)  # over the end of a window
    text = train.reshape(-1).tolist()
    passages = {tuple(text[i : i + n]) for n in range(1, width + 1) for i in range(len(text) - n + 1)}
    found = memorised_spans(rows, train)
    assert found.per_sample is not None
    for row, length in zip(rows.tolist(), found.per_sample, strict=True):
        slow = max(
            (
                n
                for n in range(1, width + 1)
                for i in range(width - n + 1)
                if tuple(row[i : i + n]) in passages
            ),
            default=0,
        )
        assert length == slow
    assert found.per_sample[0] == width
    with pytest.raises(CallError):
        memorised_spans(rows.astype(float), train)
