"""How often the verdict is wrong, counted. The long run gives the figures in docs/evaluation.md."""

from __future__ import annotations

import pytest
from evaluation.scenes import rates


@pytest.mark.parametrize("after", [None, 400], ids=["paired", "unpaired"])
@pytest.mark.parametrize("kind", ["ruin", "drop"])
def test_wrong_verdicts_are_rare(kind: str, after: int | None) -> None:
    at_margin = rates(kind, 0.05, 0.05, 40, n=300, real=150, n_after=after)
    assert at_margin["no loss"] <= 0.15  # 5 % of 40 repeats: more than 6 has a chance below 0.2 %
    assert at_margin["loss"] <= 0.15
    harmless = rates(kind, 0.0, 0.05, 20, n=300, real=150, n_after=after)
    assert harmless["loss"] == 0
    assert harmless["no loss"] >= (0.7 if after is None else 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("after", [None, 900], ids=["paired", "unpaired"])
@pytest.mark.parametrize("kind", ["ruin", "drop"])
def test_error_rates_and_power(kind: str, after: int | None) -> None:
    at_margin = rates(kind, 0.05, 0.05, 500, n_after=after)
    print(kind, "at the margin", at_margin)
    assert at_margin["no loss"] <= 0.05
    assert at_margin["loss"] <= 0.05
    for share in (0.0, 0.1, 0.15):
        print(kind, f"damage {share:.0%}, margin 5 %", rates(kind, share, 0.05, 200, n_after=after))
