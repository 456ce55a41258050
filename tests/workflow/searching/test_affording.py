"""Samples that a search can afford, and the time that it needs for them."""

from __future__ import annotations

import pytest

from niwaki.workflow.searching.affording import afford

LEAST = 400


def test_cheap_samples_are_not_limited_by_time() -> None:
    found = afford(1e-4, 3000, 1200.0, least=LEAST)
    assert found.verdict == 3000
    assert found.few(2000) == 6000


def test_dear_samples_take_their_share_of_the_time() -> None:
    seconds, each = 1200.0, 0.1
    found = afford(each, 3000, seconds, least=LEAST)
    assert LEAST < found.most < found.few(found.most) < found.verdict < 3000
    assert found.renews(found.most)
    of_the_model = found.verdict + found.most + found.few(found.most)
    assert of_the_model * each == pytest.approx(0.26 * seconds, rel=0.02)


def test_there_are_always_enough_to_tell_anything() -> None:
    found = afford(10.0, 3000, 60.0, least=LEAST)
    assert (found.verdict, found.most, found.few(LEAST)) == (LEAST, LEAST, LEAST)
    assert not found.renews(LEAST)  # none that the model has not made already
    assert afford(10.0, 100, 60.0, least=LEAST).verdict == 100  # no more than were asked for


def test_items_that_a_model_reads_are_read_anew_by_every_candidate() -> None:
    """No plan takes more than half a percent of the time to be judged, unless the fewest items do."""
    seconds, reading = 1320.0, 0.05
    found = afford(0.1, 512, seconds, least=64, reading=reading)
    assert found.verdict == 512
    assert found.most == 130
    assert found.most * reading <= 0.005 * seconds
    assert afford(0.1, 512, seconds, least=64, reading=1.0).most == 64


def test_a_second_of_samples_is_made_after_every_step() -> None:
    assert [afford(each, 100, 60.0, least=LEAST).checked for each in (1e-4, 0.1, 10.0)] == [32, 10, 4]
