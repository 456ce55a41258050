"""Moving digits: what moves where, its truth, and no digit in two splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.moving import bounced, draw

SMALL = {"source": "moving-digits", "samples": 600}
SPLITS = ["train", "validation", "test"]


def moving(**settings: object) -> Dataset:
    return load(DataConfig.model_validate({**SMALL, **settings}))


@pytest.fixture(scope="module")
def clips() -> Dataset:
    return moving()


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    return moving(digits=2, size=20, frames=5)


def centroid(clip: np.ndarray) -> np.ndarray:
    """Clips `(…, H, W)` → the centre of their brightness `(…, 2)`, x and y."""
    total = clip.sum((-1, -2))
    x = (clip.sum(-2) * np.arange(clip.shape[-1])).sum(-1)
    y = (clip.sum(-1) * np.arange(clip.shape[-2])).sum(-1)
    return np.stack([x, y], -1) / total[..., None]


class TestBounce:
    @pytest.mark.parametrize("speed", [-7.3, -1.0, 0.0, 0.4, 2.5, 11.0])
    def test_a_folded_line_is_what_step_by_step_reflection_gives(self, speed: float) -> None:
        room, place, going = 6.0, 2.25, speed / 100
        expected = [place]
        for _ in range(900):  # a hundredth of a frame each
            place += going
            if not 0 <= place <= room:
                place, going = (-place if place < 0 else 2 * room - place), -going
            expected.append(place)
        found, _ = bounced(np.array(2.25), np.array(speed), np.arange(10), room)
        np.testing.assert_allclose(found, expected[::100], atol=1e-9)

    def test_velocity_is_the_next_step_where_no_wall_is_between(self) -> None:
        rng = np.random.default_rng(0)
        place, going = bounced(rng.uniform(0, 8, 50), rng.uniform(-1, 1, 50), np.arange(12), 8.0)
        step = np.diff(place, axis=-1)
        free = np.sign(going[:, 1:]) == np.sign(going[:, :-1])
        np.testing.assert_allclose(step[free], going[:, :-1][free], atol=1e-9)
        assert (~free).any()


class TestDrawing:
    def test_at_whole_pixels_the_image_itself_is_drawn(self) -> None:
        image = np.random.default_rng(0).random((1, 8, 8))
        page = draw(image, np.array([[[3.0, 1.0]]]), 16)[0, 0]
        np.testing.assert_allclose(page[1:9, 3:11], image[0], atol=1e-12)
        assert page.sum() == pytest.approx(image.sum())

    def test_between_pixels_it_keeps_its_brightness_and_its_centre(self) -> None:
        image = np.random.default_rng(0).random((1, 8, 8))
        page = draw(image, np.array([[[2.3, 5.85]]]), 16)
        assert page.sum() == pytest.approx(image.sum())
        np.testing.assert_allclose(centroid(page)[0, 0], centroid(image)[0] + (2.3, 5.85), atol=1e-9)


@pytest.mark.parametrize("split", SPLITS)
def test_the_digit_is_where_the_truth_says(split: str, clips: Dataset) -> None:
    """Frame by frame its brightness moves as the column `position` does, but for the rounding to levels."""
    part = clips.split(split)
    moved = np.diff(centroid(part.x[:, :, 0].double().numpy()), axis=1)  # (n, T − 1, 2)
    told = np.diff(part.column("position").data.double().numpy(), axis=2).transpose(0, 2, 1)
    assert np.abs(moved - told).max() < 0.15


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_clip_is_a_digit_of_its_class_and_split_drawn_where_it_was(
    split: str, digits: Dataset, clips: Dataset
) -> None:
    part, single = clips.split(split), digits.split(split)
    assert part.y is not None
    assert single.y is not None
    for clip, y, place in zip(part.x, part.y, part.column("position").data, strict=True):
        images = single.x[single.y == y][:, 0].double().numpy()
        drawn = draw(images, np.tile(place.T.double().numpy(), (len(images), 1, 1)), 16)
        off = np.abs(drawn - clip[:, 0].numpy()).max((1, 2, 3))
        assert off.min() < 0.51  # levels, by rounding


def test_velocity_is_that_of_the_first_frame(clips: Dataset) -> None:
    place = clips.train.column("position").data
    speed = clips.train.column("velocity").data
    free = ((place[..., 0] + speed) > 0.0) & ((place[..., 0] + speed) < 8.0)
    torch.testing.assert_close((place[..., 1] - place[..., 0])[free], speed[free], atol=1e-4, rtol=0)
    norm = speed.norm(dim=1)
    assert float(norm.min()) >= 0.5 - 1e-6
    assert float(norm.max()) <= 1.5 + 1e-6


def test_two_digits_are_named_in_rising_order_and_all_pairs_occur(pairs: Dataset) -> None:
    names = pairs.spec.class_names
    assert (len(names), names[0], names[1], names[-1]) == (55, "00", "01", "99")
    assert pairs.spec["position"].names == ("x_1", "y_1", "x_2", "y_2")
    assert pairs.spec.shape == (5, 1, 20, 20)
    assert pairs.train.y is not None
    assert len(torch.unique(pairs.train.y)) == 55


def test_the_past_is_the_clip_before_the_sample(clips: Dataset) -> None:
    part = moving(past=3)
    whole = clips.test.x
    assert (part.spec.shape, part.spec["past"].shape) == ((5, 1, 16, 16), (3, 1, 16, 16))
    assert torch.equal(part.test.x, whole[:, 3:])
    assert torch.equal(part.test.column("past").data, whole[:, :3])
    assert torch.equal(part.test.column("position").data, clips.test.column("position").data[:, :, 3:])


def test_the_spec_says_axes_levels_and_rate(clips: Dataset) -> None:
    x = clips.spec.x
    assert (x.modality, x.axes, x.shape, x.levels, x.rate) == ("video", "TCHW", (8, 1, 16, 16), 17, 8.0)
    assert [len(clips.split(s)) for s in SPLITS] == [420, 60, 120]


def test_it_follows_from_the_seed_alone(clips: Dataset) -> None:
    assert moving().fingerprint == clips.fingerprint
    assert moving(seed=1).fingerprint != clips.fingerprint


def test_a_past_of_all_frames_is_refused() -> None:
    with pytest.raises(CallError, match=r"data\.past=8 of 8 frames leaves none"):
        moving(past=8)
