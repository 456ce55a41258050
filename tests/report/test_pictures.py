"""Small pictures: exact pixels, honest differences, a fair choice."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from niwaki.core.contract import DataSpec
from niwaki.modalities.image import RUST
from niwaki.report.pictures import difference, drawable, picture, spread

GREY = DataSpec.of("image", (1, 16, 16))
COLOUR = DataSpec.of("image", (3, 4, 4), low=0.0)


def opened(address: str) -> np.ndarray:
    kind, data = address.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_all_grey_levels_arrive() -> None:
    levels = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(opened(picture(levels / 127.5 - 1, GREY)), levels[0])


def test_colours_arrive_in_order_and_overshoot_is_clipped() -> None:
    sample = np.zeros((3, 4, 4), np.float32)
    sample[0], sample[1] = 1.7, -0.3  # outside 0 … 1
    sample[2] = np.nan
    assert (opened(picture(sample, COLOUR)) == (255, 0, 0)).all()


def test_equal_samples_have_an_invisible_difference() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16))
    assert (opened(difference(x, x, GREY))[..., 3] == 0).all()


def test_the_difference_grows_to_full_colour() -> None:
    before = np.full((1, 16, 16), -1.0)
    after = before.copy()
    after[0, 0, 0], after[0, 0, 1] = 1.0, -0.5  # the whole range, and a quarter of it
    shown = opened(difference(before, after, GREY))
    assert tuple(shown[0, 0]) == (*RUST, 255)
    assert shown[0, 1, 3] == 128  # √¼
    assert shown[1:, :, 3].max() == 0


def test_classes_take_turns() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert spread(labels, 6, 5) == [0, 3, 4, 1, 5]
    assert spread(labels, 6, 100) == [0, 3, 4, 1, 5, 2]
    assert spread(None, 6, 4) == [0, 1, 2, 3]


def test_of_many_classes_an_even_choice_is_shown() -> None:
    labels = np.repeat(np.arange(62), 3)
    shown = labels[spread(labels, len(labels), 12)]
    assert len(set(shown.tolist())) == 12
    assert (shown[0], shown[-1]) == (0, 61)
    assert np.diff(shown).min() >= 5


def test_what_can_be_drawn() -> None:
    assert drawable(GREY)
    assert not drawable(DataSpec.of("vector", (2,)))
    assert not drawable(DataSpec.of("image", (2, 4, 4)))
    assert not drawable(None)
