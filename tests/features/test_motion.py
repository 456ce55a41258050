"""Features of clips: a distance of them sees what happens in time, where one of frames cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from features.toys import toy

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.features import build, selfsupervised
from niwaki.features.encoders import build_encoder
from niwaki.features.motion import CHANGES

CLIPS = [(4, 1, 8, 8), (5, 2, 8, 10), (6, 1, 12, 8), (7, 3, 8, 8), (8, 1, 16, 16)]


def numbered(n: int, frames: int) -> torch.Tensor:
    """Clip i shows 100 i + t in frame t."""
    values = 100.0 * torch.arange(n)[:, None] + torch.arange(frames)
    return values[:, :, None, None, None].expand(n, frames, 1, 2, 3).clone()


@pytest.mark.parametrize("frames", [4, 5, 6, 7, 8])
class TestChanges:
    def shown(self, name: str, frames: int) -> np.ndarray:
        x = CHANGES[name](numbered(20, frames), torch.Generator().manual_seed(0))
        assert x.shape == (20, frames, 1, 2, 3)
        assert torch.equal(x.amin((2, 3, 4)), x.amax((2, 3, 4)))  # whole frames
        return x[:, :, 0, 0, 0].numpy()

    def test_shuffled_holds_the_same_frames(self, frames: int) -> None:
        shown, own = self.shown("shuffled", frames), numbered(20, frames)[:, :, 0, 0, 0].numpy()
        np.testing.assert_array_equal(np.sort(shown, 1), own)
        assert (shown != own).any()

    def test_still_is_one_frame_of_the_clip(self, frames: int) -> None:
        shown = self.shown("still", frames)
        assert (shown == shown[:, :1]).all()
        np.testing.assert_array_equal(shown[:, 0] // 100, np.arange(20))

    def test_stuttering_shows_every_other_frame_twice(self, frames: int) -> None:
        at = np.arange(frames)
        np.testing.assert_array_equal(self.shown("stuttering", frames)[0], at - at % 2)

    def test_cut_ends_with_another_clip(self, frames: int) -> None:
        shown = self.shown("cut", frames)
        np.testing.assert_array_equal(shown % 100, np.tile(np.arange(frames), (20, 1)))
        which = shown // 100
        np.testing.assert_array_equal(which[:, 0], np.arange(20))
        np.testing.assert_array_equal(which[:, -1], np.arange(-1, 19) % 20)


@pytest.mark.parametrize("shape", CLIPS, ids=str)
def test_clips_of_any_size_become_features(shape: tuple[int, ...]) -> None:
    model = build_encoder("motion", {}, DataSpec.of("video", shape))
    assert model(torch.zeros(2, *shape)).shape == (2, 64)


@pytest.mark.parametrize("shape", [(1, 8, 8), (6,), (2, 40), (3, 1, 8, 8), "text"], ids=str)
def test_other_data_are_refused_by_one_sentence(shape: tuple[int, ...] | str) -> None:
    with pytest.raises(CallError, match="'motion' looks at clips of 4 frames or more"):
        build(["motion"], toy(shape))  # type: ignore[arg-type]


def _frames_alone(x: np.ndarray, network: torch.nn.Module) -> np.ndarray:
    """Features of frames, each by itself: what a Fréchet distance of frames compares."""
    with torch.inference_mode():
        found: np.ndarray = network(torch.from_numpy(x.reshape(-1, 1, 16, 16))).numpy()
    return found


@pytest.mark.slow
def test_a_distance_of_clips_ranks_planted_damage_and_one_of_frames_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More frames out of order cost more; still clips cost; so does noise. Frames in another order are the
    same frames, and still ones are real ones, too."""
    monkeypatch.setattr(selfsupervised, "encoder_steps", lambda n, batch: 150)
    data: Dataset = load(DataConfig.model_validate({"source": "moving-digits", "samples": 1500}))
    (clip_features,) = build(["motion"], data)
    torch.manual_seed(0)
    frame_features = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 5, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, 2), torch.nn.Flatten(),
        torch.nn.Linear(64, 12),
    )  # fmt: skip
    real, x = data.train.values().numpy()[:400], data.train.values().numpy()[400:800]
    rng = np.random.default_rng(0)

    def out_of_order(share: float) -> np.ndarray:
        shown = x.copy()
        for clip in shown[: int(share * len(x))]:
            clip[:] = clip[rng.permutation(len(clip))]
        return shown

    damages = {
        "none": x,
        "half out of order": out_of_order(0.5),
        "all out of order": out_of_order(1.0),
        "still": np.repeat(x[:, 3:4], x.shape[1], 1),
        "noise": (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32),
    }
    clips = {k: frechet_distance(clip_features(real), clip_features(v)).value for k, v in damages.items()}
    frames = {
        k: frechet_distance(_frames_alone(real, frame_features), _frames_alone(v, frame_features)).value
        for k, v in damages.items()
    }
    assert 2 * clips["none"] < clips["half out of order"] < clips["all out of order"]
    assert min(clips["still"], clips["noise"]) > 3 * clips["none"]
    assert frames["all out of order"] == pytest.approx(frames["none"], rel=1e-3, abs=1e-6)
    assert frames["still"] < 0.2 * frames["noise"]
