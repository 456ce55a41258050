"""What is tried before any training: plans of which little is expected to be lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from niwaki.compression.search.choices import Choices
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.search import _worth_trying_untrained

SAFE = Candidate(Choices(bits={"a": 8, "b": 8}))
CUT = Candidate(Choices({"a": 0.5}, {"a": 4, "b": 4}))


@pytest.mark.parametrize(("expected", "tried"), [(0.5, True), (3.0, False), (math.inf, False)])
def test_a_cut_is_tried_untrained_where_little_should_be_lost(expected: float, tried: bool) -> None:
    assert _worth_trying_untrained(replace(CUT, expected=expected), SAFE) is tried
    assert not _worth_trying_untrained(replace(CUT, expected=expected, trained=(20,)), SAFE)


def test_eight_bits_are_whatever_is_expected_and_the_safe_plan_is_no_second_one() -> None:
    assert _worth_trying_untrained(Candidate(Choices(bits={"a": 8})), SAFE)
    assert not _worth_trying_untrained(Candidate(Choices(bits={"a": 8, "b": 4})), SAFE)
    assert not _worth_trying_untrained(SAFE, SAFE)


@pytest.mark.parametrize("expected", [0.25, math.inf])
def test_what_is_expected_is_kept(expected: float) -> None:
    record = json.loads(json.dumps(replace(CUT, expected=expected).to_json(), allow_nan=False))
    assert Candidate.from_json(record).expected == expected
    del record["expected"]  # of an earlier version
    assert Candidate.from_json(record).expected == math.inf
