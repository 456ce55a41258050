"""Outpainting: the picture lies where it was put, pixel for pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec
from niwaki.uses.baselines import edge_fill
from niwaki.uses.outpaint import placed
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 2}}
    return models.build("ddpm", settings, DIGITS).eval()


def write(file: Path, width: int, height: int) -> np.ndarray:
    pixels = RNG.integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(file)
    return pixels


@pytest.mark.parametrize(
    ("side", "borders", "here", "there"),
    [
        (8, {"left": 2}, np.s_[:, 2:], np.s_[:, :6]),
        (8, {"right": 3}, np.s_[:, :5], np.s_[:, 3:]),
        (8, {"top": 1, "left": 2}, np.s_[1:, 2:], np.s_[:7, :6]),
        (5, {}, np.s_[:5, :5], np.s_[:, :]),
        (5, {"left": 1, "top": 2}, np.s_[2:7, 1:6], np.s_[:, :]),
        (5, {"right": 1, "bottom": 3}, np.s_[:5, 2:7], np.s_[:, :]),
    ],
)
def test_what_is_known_lies_where_it_was_put(
    model: Any, side: int, borders: dict[str, int], here: Any, there: Any, tmp_path: Path
) -> None:
    before = write(tmp_path / "a.png", side, side)
    made = niwaki.use("outpaint", model, tmp_path / "a.png", condition=3, out=tmp_path / "made", **borders)
    after = np.asarray(Image.open(tmp_path / "made" / "a.png"))
    assert np.array_equal(after[here], before[there])
    assert made.record["made_share"] == 1 - before[there].size / 64


def test_test_samples_stay_and_are_measured(model: Any) -> None:
    made = niwaki.use("outpaint", model, data="digits", n=4, left=2, right=2, repeats=1)
    assert set(made.record["measured"]) == {"made", "mean of the training data", "nearest known pixel"}
    assert made.record["made_share"] == 0.5


@pytest.mark.parametrize(
    ("size", "borders", "text"),
    [
        ((8, 8), {}, "how many pixels are to be made on which side"),
        ((8, 8), {"left": 2, "right": 2}, "moved away from one side"),
        ((8, 8), {"left": 8}, "nothing is left of 8×8"),
        ((6, 6), {"left": 3}, "6×6 pixels do not fit into the 5×8"),
        ((6, 4), {}, "6×4 pixels; give square ones"),
    ],
)
def test_wrong_borders_are_said(
    model: Any, size: tuple[int, int], borders: dict[str, int], text: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.png", *size)
    with pytest.raises(CallError, match=text):
        niwaki.use("outpaint", model, tmp_path / "a.png", condition=3, **borders)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1, -2), (-3, 2)])
def test_placed_is_a_shift(left: int, top: int) -> None:
    x = RNG.normal(size=(2, 1, 4, 4)).astype(np.float32)
    frame, known = placed(x, (1, 5, 6), left, top)
    for i in range(5):
        for j in range(6):
            inside = 0 <= i - top < 4 and 0 <= j - left < 4
            assert known[0, i, j] == inside
            assert np.array_equal(frame[:, 0, i, j], x[:, 0, i - top, j - left] if inside else [0, 0])


def test_edge_fill_takes_the_nearest_known_pixel() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    known = np.zeros((1, 1, 4, 4))
    known[..., 1:] = 1
    assert np.array_equal(edge_fill(x, known)[0, 0, :, 0], x[0, 0, :, 1])
