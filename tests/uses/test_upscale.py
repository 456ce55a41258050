"""Enlarging by files: what the small picture says stays, and a wrong size has its sentence."""

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
from niwaki.uses.upscale import block_means
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
RNG = np.random.default_rng(0)


def small(name: str) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 2}}
    return models.build(name, settings if name != "vae" else {"latent": 6, "width": 4}, DIGITS).eval()


def write(place: Path, width: int, height: int) -> np.ndarray:
    pixels = RNG.integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(place)
    return pixels


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
@pytest.mark.parametrize("side", [2, 4])
def test_blocks_of_the_result_have_the_given_means(name: str, side: int, tmp_path: Path) -> None:
    given = write(tmp_path / "small.png", side, side)
    made = niwaki.use("upscale", small(name), tmp_path / "small.png", condition=3, out=tmp_path / "made")
    assert made.record["factor"] == 8 // side
    assert made.record["mean_off_at_most"] < 1e-5
    after = np.asarray(Image.open(tmp_path / "made" / "small.png"))
    found = block_means(after[None, None], 8 // side)[0, 0]
    assert np.abs(found - given).max() <= 0.5  # each pixel of the file is rounded


def test_test_samples_are_measured_beside_interpolation() -> None:
    made = niwaki.use("upscale", small("ddpm"), data="digits", n=6)
    assert set(made.record["measured"]) == {"made", "bicubic", "nearest pixel"}
    assert len(made.sheet) == 24  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "size", "options", "text"),
    [
        ("ddpm", (3, 3), {}, "3×3 pixels, and the model makes 8×8"),
        ("ddpm", (8, 8), {}, "8×8 pixels, and the model makes 8×8"),
        ("ddpm", (4, 2), {}, "4×2 pixels, and the model makes 8×8"),
        ("ddpm", (4, 4), {"factor": 4}, "with factor=4 the model enlarges 2×2 pixels to 8×8"),
        ("ddpm", (4, 4), {"factor": 3}, "8×8 pixels, which 3 does not divide"),
        ("vae", (4, 4), {}, "needs the program 'upscale'"),
    ],
)
def test_wrong_sizes_are_said(
    name: str, size: tuple[int, int], options: dict[str, int], text: str, tmp_path: Path
) -> None:
    write(tmp_path / "small.png", *size)
    with pytest.raises(CallError, match=text):
        niwaki.use("upscale", small(name), tmp_path / "small.png", condition=3, **options)


def test_block_means() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert np.array_equal(block_means(x, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert np.array_equal(block_means(x, 4)[0, 0], [[7.5]])
