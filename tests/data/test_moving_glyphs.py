"""Moving glyphs: one character in each clip, where the truth says, of its split's drawings."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.fonts import CHARACTERS, FAMILIES
from niwaki.data.reading.moving import draw
from niwaki.data.sources import glyphs

SETTINGS = {"source": "moving-glyphs", "samples": 400, "glyph": 10, "size": 18, "variants": 3, "frames": 5}
TWO = {name: dict(list(FAMILIES[name].items())[:1]) for name in ("DejaVu Sans", "STIX")}


@pytest.fixture(scope="module")
def clips() -> Dataset:
    """Of one font, since drawing all takes a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "FAMILIES", TWO)
        return load(DataConfig.model_validate(SETTINGS))


@pytest.fixture(scope="module")
def single() -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "FAMILIES", TWO)
        return load(DataConfig.model_validate({"source": "glyphs", "size": 10, "variants": 3}))


def test_clips_have_the_characters_as_classes(clips: Dataset) -> None:
    assert clips.spec.shape == (5, 1, 18, 18)
    assert clips.spec.class_names == tuple(CHARACTERS)
    assert clips.spec.levels == 256
    assert {name for name in clips.spec if name != "x"} == {"class", "position", "velocity"}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_clip_is_a_drawing_of_its_class_and_split_where_the_truth_says(
    split: str, clips: Dataset, single: Dataset
) -> None:
    part, glyph = clips.split(split), single.split(split)
    assert part.y is not None
    assert glyph.y is not None
    for clip, y, place in zip(part.x, part.y, part.column("position").data, strict=True):
        images = glyph.x[glyph.y == y][:, 0].double().numpy()
        drawn = draw(images, np.tile(place.T.double().numpy(), (len(images), 1, 1)), 18)
        assert np.abs(drawn - clip[:, 0].numpy()).max((1, 2, 3)).min() < 0.6  # levels, by rounding


def test_a_ground_without_room_is_refused_by_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "FAMILIES", TWO)
    with pytest.raises(CallError, match=r"data\.size=10 leaves no room"):
        load(DataConfig.model_validate({**SETTINGS, "size": 10}))
