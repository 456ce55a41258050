"""Which pairs are asked: the same at every call, balanced, with planted ones and common ones."""

from __future__ import annotations

from collections import Counter

import pytest

from niwaki.studio.questions import question_of

MODELS = ["c", "a", "b"]


def test_a_question_follows_from_its_number_and_its_rater() -> None:
    first = [question_of(MODELS, "ann", k) for k in range(40)]
    assert first == [question_of(sorted(MODELS), "ann", k) for k in range(40)]
    other = [question_of(MODELS, "bob", k) for k in range(40)]
    both = {one.name for one in first if not one.check} & {one.name for one in other if not one.check}
    assert 7 <= len(both) <= 10  # every fourth is asked of all, where no planted one takes its place


def test_pairs_and_sides_are_balanced() -> None:
    asked = [question_of(MODELS, f"r{r}", k, checks=0.0) for r in range(20) for k in range(60)]
    pairs = Counter(frozenset((one.left, one.right)) for one in asked)
    assert len(pairs) == 3
    assert max(pairs.values()) - min(pairs.values()) <= 60
    for a, b in ((("a", "b")), ("a", "c"), ("b", "c")):
        n = pairs[frozenset((a, b))]
        left = sum((one.left, one.right) == (a, b) for one in asked)
        assert abs(left / n - 0.5) < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("checks", [0.0, 0.2, 0.5])
def test_planted_questions_are_as_many_as_asked_for_and_are_what_they_say(checks: float) -> None:
    asked = [[question_of(MODELS, f"r{r}", k, checks=checks) for k in range(100)] for r in range(8)]
    planted = [one for line in asked for one in line if one.check]
    assert len(planted) / (8 * 96) == pytest.approx(checks, abs=0.06)
    for line in asked:
        for k, one in enumerate(line):
            if one.check == "identical":
                assert one.left == one.right
            elif one.check == "repeat":
                before = next(q for q in line[:k] if q.name == one.name and not q.check)
                assert (before.left, before.right, before.number) == (one.right, one.left, one.number)
            else:
                assert one.left != one.right
