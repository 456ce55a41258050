"""The watch over a stream: no false alarms, planted changes found by their channel, resumed."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.evaluation.drift.channel import Reference, channels_of, rank_allowance
from niwaki.evaluation.drift.watch import Reading, Watch
from niwaki.evaluation.statistics.ranks import mid_ranks
from niwaki_runtime.errors import CallError

D = 12
CENTRES = np.random.default_rng(99).normal(size=(10, D)) * 2


def draw(rng, n, share=1.0):
    return CENTRES[rng.integers(10, size=n)] + rng.normal(size=(n, D))


def ruined(rng, x, part):
    x[part] += 4 * rng.normal(size=(len(part), D))


def repeated(rng, x, part):
    x[part] = x[part[0]] + 0.05 * rng.normal(size=(len(part), D))


def one_class(rng, x, part):
    x[part] = CENTRES[0] + rng.normal(size=(len(part), D))


def watched(stream, change=None, share=0.5, seed=0, blocks=12, held=1000) -> list[list[Reading]]:
    rng = np.random.default_rng(seed)
    watch = Watch(stream, Reference(draw(rng, 800), draw(rng, held)))
    said = []
    for _ in range(blocks):
        x = draw(rng, 100)
        part = rng.permutation(100)[: int(share * 100)]
        if change == "copied":
            x[part] = watch.reference.train[rng.integers(800, size=len(part))]
        elif change is not None:
            change(rng, x, part)
        said.append(watch.add(x))
    return said


def alarms(said: list[list[Reading]]) -> set[str]:
    return {reading.channel for block in said for reading in block if reading.standing == "alarm"}


@pytest.mark.parametrize("change, stream, channel", [
    (ruined, "inputs", "farther"),
    (ruined, "inputs", "separable"),
    (one_class, "inputs", "separable"),
    (repeated, "outputs", "collapse"),
    ("copied", "outputs", "copies"),
])  # fmt: skip
def test_every_change_is_found_by_the_channel_that_it_is_of(change, stream, channel):
    assert channel in alarms(watched(stream, change, share=0.6))


def test_where_nothing_changes_there_is_no_alarm_and_copies_are_watched_in_outputs_alone():
    for seed in range(15):
        assert alarms(watched("outputs", seed=seed)) == set()
    names = lambda stream: [c.name for c in channels_of(stream, Reference(CENTRES, CENTRES))]  # noqa: E731
    assert names("outputs") == ["collapse", "copies", "farther", "separable"]
    assert names("inputs") == ["collapse", "farther", "separable"]


def test_a_change_within_the_margin_raises_no_alarm_however_long_it_lasts():
    said = watched("inputs", ruined, share=0.04, blocks=60)
    assert alarms(said) == set()
    assert {r.standing for r in said[-1] if r.channel == "farther"} <= {"calm", "open"}


def test_the_effect_is_the_share_of_samples_that_are_of_another_kind():
    def far(rng, x, part):
        x[part] = 100.0 + rng.normal(size=(len(part), D))

    (reading,) = [r for r in watched("inputs", far, share=0.3)[-1] if r.channel == "farther"]
    assert reading.effect == pytest.approx(0.3, abs=0.05)
    assert reading.low < 0.3 < reading.high


def test_what_is_unlike_in_spread_alone_is_told_apart():
    def wider(rng, x, part):
        x[part] = x.mean(0) + 2.5 * (x[part] - x.mean(0))

    assert "separable" in alarms(watched("inputs", wider, share=1.0))


def test_a_watch_goes_on_with_the_same_numbers():
    rng = np.random.default_rng(3)
    reference = Reference(draw(rng, 300), draw(rng, 200))
    blocks = [draw(rng, 60) for _ in range(7)]
    whole = Watch("outputs", reference)
    for block in blocks:
        expected = whole.add(block)
    first = Watch("outputs", reference)
    for block in blocks[:5]:
        first.add(block)
    second = Watch("outputs", reference)
    second.restore(first.state())
    for block in blocks[5:]:
        found = second.add(block)
    for a, b in zip(expected, found, strict=True):
        assert a == pytest.approx(b) if not isinstance(a, Reading) else vars(a) == pytest.approx(vars(b))


def test_a_small_reference_makes_the_bounds_wide_and_says_so():
    assert rank_allowance(50, 0.01) > 2 * rank_allowance(500, 0.01)
    (reading,) = [r for r in watched("inputs", ruined, share=0.2, held=40)[-1] if r.channel == "farther"]
    assert reading.standing == "open"


def test_equal_values_count_by_half():
    assert mid_ranks(np.array([1.0, 2.0, 0.0]), np.array([1.0, 1.0, 3.0, 0.5])).tolist() == [0.5, 0.75, 0.0]


@pytest.mark.parametrize("margin, level", [(0.0, 0.01), (1.0, 0.01), (0.1, 0.0), (0.1, 0.7)])
def test_margins_and_levels_without_a_meaning_are_refused(margin, level):
    with pytest.raises(CallError, match="margin"):
        Watch("inputs", Reference(CENTRES, CENTRES), margin=margin, level=level)
