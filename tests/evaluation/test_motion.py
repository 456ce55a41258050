"""How clips move: against clips whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation.metrics.kernel import kernel_distance
from niwaki.evaluation.metrics.motion import (
    centres,
    frames_recognised,
    motion_error,
    position_error,
    same_all_along,
    temporal_consistency,
)
from niwaki.evaluation.sample_measures import SAMPLE_MEASURES
from niwaki.evaluation.sample_sets import SampleSets
from niwaki.features import build

NAMES = ("temporal_consistency", "motion_error", "position_error")


def shifted(steps: list[tuple[int, int]], n: int = 3, channels: int = 1) -> np.ndarray:
    """A patch of noise at these places (right, down) of a dark ground, frame by frame."""
    patch = np.random.default_rng(0).uniform(0.2, 1, (n, channels, 5, 5))
    clips = np.full((n, len(steps), channels, 20, 18), -1.0)
    for t, (right, down) in enumerate(steps):
        clips[:, t, :, down : down + 5, right : right + 5] = patch
    return clips


LINE = [(2 + 2 * t, 3 + t) for t in range(5)]
JUMPS = [(2, 2), (9, 12), (3, 10), (11, 2), (2, 12)]


@pytest.mark.parametrize("channels", [1, 3])
def test_whole_pixel_shifts_are_consistent_and_jumps_are_not(channels: int) -> None:
    assert temporal_consistency(shifted(LINE, channels=channels)).value == pytest.approx(1.0)
    assert temporal_consistency(shifted(JUMPS, channels=channels)).value < 0.5
    assert temporal_consistency(np.random.default_rng(0).normal(size=(20, 4, channels, 16, 16))).value < 0.3


def test_frames_without_contrast_are_like_each_other_alone() -> None:
    still = np.zeros((2, 4, 1, 8, 8))
    assert temporal_consistency(still).value == 1.0
    still[:, 1::2] = np.random.default_rng(0).normal(size=(2, 2, 1, 8, 8))
    assert temporal_consistency(still).value == 0.0


def test_the_centre_is_where_the_light_is() -> None:
    clips = np.full((1, 2, 1, 6, 9), -1.0)
    clips[0, 0, 0, 4, 7] = 1.0
    np.testing.assert_allclose(centres(clips, -1.0), [[[7.0, 4.0], [4.0, 2.5]]])  # of a dark frame the middle


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (LINE, 0.0),
        ([(2, 2)] * 5, 0.0),
        ([(2, 2), (4, 2), (6, 2), (8, 2), (8, 2), (6, 2), (4, 2), (2, 2)], 0.0),  # one bounce of two steps
        ([(2, 2), (4, 2), (2, 2), (4, 2)], 4.0),  # there and back, every time
        ([(2, 2), (3, 3), (5, 5)], 2**0.5),
    ],
)
def test_the_error_of_motion_is_the_change_of_velocity(steps: list[tuple[int, int]], expected: float) -> None:
    assert motion_error(shifted(steps), -1.0).value == pytest.approx(expected, abs=1e-9)


def test_a_bounce_off_known_walls_is_no_error_of_position() -> None:
    steps = [(0, 2), (3, 4), (6, 6), (9, 8), (12, 10), (11, 12), (8, 14), (5, 14)]  # walls at 13 and 15
    clips = shifted(steps, n=1)
    offset = centres(clips, -1.0)[:, 0] - steps[0]
    room = np.array([13.0, 15.0])
    found = position_error(clips, -1.0, offset, room)
    # 12 + 3 = 15 comes back as 11; 14 + 2 = 16 comes back as 14
    assert found.value == pytest.approx(0.0, abs=1e-9)
    assert position_error(clips[:, ::-1][:, [0, 3, 1, 2]], -1.0, offset, room).value > 2.0


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 1, 8, 8), (0, 4, 1, 8, 8)])
def test_what_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CallError, match=r"clips"):
        motion_error(np.zeros(shape), -1.0)
    with pytest.raises(CallError, match=r"clips"):
        temporal_consistency(np.zeros(shape))


@pytest.fixture(scope="module")
def clips() -> Dataset:
    return load(DataConfig.model_validate({"source": "moving-digits", "samples": 600}))


@pytest.fixture(scope="module")
def shuffled(clips: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Real clips, and the same with the frames of each in another order."""
    x = clips.test.values().cpu().numpy()
    rng = np.random.default_rng(0)
    return x, np.stack([clip[rng.permutation(len(clip))] for clip in x])


@pytest.mark.parametrize(("name", "better"), zip(NAMES, (1, -1, -1), strict=True))
def test_real_clips_are_as_good_as_their_floor_and_shuffled_ones_worse(
    name: str, better: int, clips: Dataset, shuffled: tuple[np.ndarray, np.ndarray]
) -> None:
    row = next(row for row in SAMPLE_MEASURES if name in row.kinds)
    assert row.kinds[name] == ("fidelity", "higher" if better > 0 else "lower")
    assert row.lacks(clips.spec, False) == ""
    assert clips.test.y is not None
    labels = clips.test.y.numpy()
    sides = [SampleSets(x, y, clips, np.arange(len(x)), ()) for x in shuffled for y in (labels, None)]
    real, _, worse, plain = (row.compute(sets)[name] for sets in sides)
    for found in (real, worse, plain):
        assert found.floor is not None
    assert real.value == pytest.approx(real.floor, abs=0.15)
    assert better * (real.value - worse.value) > 0.1
    assert better * (real.value - plain.value) > 0.1


def test_random_features_of_clips_see_a_shuffle(
    clips: Dataset, shuffled: tuple[np.ndarray, np.ndarray]
) -> None:
    """Over space and time: a shuffled clip has the very same frames. The kernel distance has no bias."""
    (look,) = build(["random"], clips)
    real = look(clips.train.values(torch.arange(len(shuffled[0]))).numpy())
    near, far = (kernel_distance(real, look(x)).value for x in shuffled)
    assert far > 3 * abs(near)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (DataSpec.of("image", (1, 8, 8)), "looks at clips"),
        (DataSpec.of("series", (2, 9)), "looks at clips"),
        (DataSpec.of("video", (4, 1, 8, 8)), "position"),
    ],
)
def test_other_data_have_no_motion(name: str, spec: DataSpec, reason: str) -> None:
    row = next(row for row in SAMPLE_MEASURES if name in row.kinds)
    lacks = row.lacks(spec, False)
    assert (reason in lacks) if name == "position_error" or reason != "position" else lacks == ""


def test_what_frames_show_is_counted_in_each_clip() -> None:
    shown = np.array([[3, 3, 3, 3], [3, 3, 5, 5], [1, 2, 3, 1]])
    assert frames_recognised(shown, np.array([3, 5, 1])).per_sample == pytest.approx([1.0, 0.5, 0.5])
    assert same_all_along(shown).per_sample == pytest.approx([1.0, 0.5, 0.5])
    assert same_all_along(np.array([[0, 1, 2, 3]])).value == pytest.approx(0.25)


@pytest.mark.slow
def test_a_clip_that_becomes_another_digit_is_noticed(clips: Dataset) -> None:
    row = next(row for row in SAMPLE_MEASURES if "same_all_along" in row.kinds)
    assert row.lacks(clips.spec, False) == ""
    x = clips.test.values().cpu().numpy()
    assert clips.test.y is not None
    y = clips.test.y.numpy()
    cut = np.concatenate([x[:, :4], np.roll(x, 1, 0)[:, 4:]], 1)
    good, bad = (row.compute(SampleSets(v, y, clips, np.arange(len(x)), ())) for v in (x, cut))
    for name in ("frames_recognised", "same_all_along"):
        assert good[name].value > 0.8
        assert good[name].value == pytest.approx(good[name].floor, abs=0.1)
        assert bad[name].value < good[name].value - 0.2


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (DataSpec.of("image", (1, 8, 8), classes=3), "looks at clips"),
        (DataSpec.of("video", (4, 1, 8, 8)), "needs labelled clips"),
        (DataSpec.of("video", (4, 1, 8, 8), classes=3), ""),
    ],
)
def test_frames_are_recognised_where_clips_have_classes(spec: DataSpec, reason: str) -> None:
    row = next(row for row in SAMPLE_MEASURES if "same_all_along" in row.kinds)
    lacks = row.lacks(spec, False)
    assert lacks.startswith(reason)
    assert bool(lacks) == bool(reason)
