"""How clips are written, shown and damaged."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.core.contract import CallError
from niwaki.modalities import modality_of
from niwaki.modalities.movies import movie_frames
from niwaki_runtime.specs import Levels, ValueSpec

SHAPES = [(1, 1, 16, 16), (2, 1, 8, 8), (5, 3, 6, 10), (8, 1, 16, 16), (16, 4, 12, 8)]


def clips(n: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ValueSpec]:
    """Clips whose frame t has the brightness t."""
    spec = ValueSpec("video", shape, values=Levels(17), rate=5.0)
    x = np.linspace(-1, 1, n * shape[0], dtype=np.float32).reshape(n, shape[0], 1, 1, 1)
    return np.broadcast_to(x, (n, *shape)).copy(), spec


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gif_plays_all_frames_at_the_clips_rate(shape: tuple[int, ...], tmp_path: Path) -> None:
    x, spec = clips(3, shape)
    with Image.open(modality_of(spec).write(tmp_path / "x.gif", x, spec)) as file:
        assert getattr(file, "n_frames", 1) == shape[0]
        if shape[0] > 1:
            assert file.info["duration"] == 200


def test_frames_that_stand_still_are_frames_all_the_same(tmp_path: Path) -> None:
    spec = ValueSpec("video", (4, 1, 8, 8), values=Levels(17), rate=5.0)
    with Image.open(modality_of(spec).write(tmp_path / "x.gif", np.zeros((1, 4, 1, 8, 8)), spec)) as file:
        lasts = [file.seek(t) or file.info["duration"] for t in range(file.n_frames)]
    assert sum(lasts) == 4 * 200


@pytest.mark.parametrize("shape", SHAPES)
def test_a_contact_sheet_has_a_row_for_each_clip_and_its_frames_in_order(shape: tuple[int, ...]) -> None:
    x, spec = clips(2, shape)
    file = modality_of(spec).rows(x, spec, 10)
    assert file is not None
    page = np.asarray(Image.open(io.BytesIO(file)).convert("L")).astype(int)
    frames = 2 * shape[0]
    height, width = page.shape[0] / 2, page.shape[1] / shape[0]
    middles = [
        page[int((i // shape[0] + 0.5) * height), int((i % shape[0] + 0.5) * width)] for i in range(frames)
    ]
    assert middles == sorted(middles)


@pytest.mark.parametrize("shape", SHAPES)
def test_damage_leaves_neither_the_frames_nor_their_order(shape: tuple[int, ...]) -> None:
    spec = ValueSpec("video", shape, values=Levels(17))
    x = np.random.default_rng(0).uniform(-1, 1, (40, *shape)).astype(np.float32)
    bad = modality_of(spec).ruin(x, spec, np.random.default_rng(1))
    assert bad.shape == x.shape
    assert bad.std((-1, -2)).mean() < 0.3 * x.std((-1, -2)).mean()  # blurred
    still, _ = clips(40, shape)  # a blur leaves a frame of one brightness as it is
    bright = modality_of(spec).ruin(still, spec, np.random.default_rng(1)).mean((2, 3, 4))
    np.testing.assert_allclose(np.sort(bright, 1), still.mean((2, 3, 4)), atol=1e-5)
    if shape[0] > 2:
        assert (np.diff(bright, axis=1) < 0).any(1).mean() > 0.7


@pytest.mark.parametrize("shape", SHAPES)
def test_an_mp4_plays_the_same_pages_as_the_gif(shape: tuple[int, ...], tmp_path: Path) -> None:
    pytest.importorskip("av")
    x, spec = clips(3, shape)
    film = list(movie_frames(modality_of(spec).write(tmp_path / "x.mp4", x, spec)))
    with Image.open(modality_of(spec).write(tmp_path / "x.gif", x, spec)) as file:
        first = np.asarray(file.convert("L")).astype(int)
    assert len(film) == shape[0]
    height, width = first.shape
    assert film[0].shape == (height + height % 2, width + width % 2, 3)
    off = np.abs(film[0][:height, :width].astype(int) - first[..., None])
    assert off.mean() < (8 if shape[1] == 1 else 40)  # lossy; of four channels the fourth is opacity


def test_without_the_extra_an_mp4_is_refused_by_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    x, spec = clips(1, (2, 1, 8, 8))
    with pytest.raises(CallError, match=r"pip install 'niwaki\[video\]'"):
        modality_of(spec).write(tmp_path / "x.mp4", x, spec)
    assert not (tmp_path / "x.mp4").exists()
