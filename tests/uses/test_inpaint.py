"""Inpainting by files: known pixels come out as they were given, and every lack has its sentence."""

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
from niwaki.uses.baselines import bicubic, mean_fill, neighbour_fill
from niwaki.uses.masks import random_holes
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
SMALL = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 2}}
RNG = np.random.default_rng(0)


def small(name: str) -> Any:
    torch.manual_seed(0)
    return models.build(
        name, SMALL if name != "vae" else {"latent": 6, "width": 4, "hidden": 16}, DIGITS
    ).eval()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two pictures, one mask for both (the right half), and the first picture with that half transparent."""
    for i in range(2):
        Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{i}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    clear = Image.open(tmp_path / "0.png").convert("RGBA")
    clear.putalpha(Image.fromarray(255 - mask))
    clear.save(tmp_path / "clear.png")
    return tmp_path


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L"))


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
@pytest.mark.parametrize("repeats", [1, 2])
def test_known_pixels_come_out_as_they_were_given(name: str, repeats: int, place: Path) -> None:
    files = [place / "0.png", place / "1.png"]
    made = niwaki.use(
        "inpaint", small(name), files, mask=str(place / "mask.png"), condition=[3, 4], repeats=repeats,
        out=place / "made",
    )  # fmt: skip
    assert made.record["made_share"] == 0.5
    for file in files:
        before, after = pixels(file), pixels(place / "made" / file.name)
        assert np.array_equal(before[:, :4], after[:, :4])
        assert not np.array_equal(before[:, 4:], after[:, 4:])


def test_transparent_pixels_are_made_and_a_sheet_shows_both(place: Path) -> None:
    model = small("ddpm")
    by_alpha = niwaki.use("inpaint", model, place / "clear.png", condition=3, out=place / "sheet.png")
    by_mask = niwaki.use("inpaint", model, place / "0.png", mask=str(place / "mask.png"), condition=3)
    assert np.array_equal(by_alpha.x, by_mask.x)  # type: ignore[arg-type]
    assert by_alpha.sheet is not None
    assert len(by_alpha.sheet) == 2  # before and after
    assert (place / "sheet.png").exists()


def test_without_a_class_the_model_is_asked_for_nothing(place: Path) -> None:
    model, mask = small("ddpm"), str(place / "mask.png")
    free = niwaki.use("inpaint", model, place / "0.png", mask=mask)
    null = niwaki.use("inpaint", model, place / "0.png", mask=mask, condition=10)
    assert np.array_equal(free.x, null.x)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "file", "mask", "text"),
    [
        ("ddpm", "0.png", "", "transparent nowhere: name a mask"),
        ("ddpm", "0.png", "black.png", "white nowhere"),
        ("ddpm", "0.png", "large.png", "16×16 pixels .* 8×8; give it the size"),
        ("ddpm", "0.png", "none.png", "does not exist"),
        ("ddpm", "0.png", "text.png", "cannot be read"),
        ("vae", "0.png", "mask.png", "needs the program 'inpaint'"),
        ("ddpm", "none-there", "mask.png", "does not exist"),
    ],
)
def test_what_is_lacking_is_said(name: str, file: str, mask: str, text: str, place: Path) -> None:
    Image.new("L", (8, 8)).save(place / "black.png")
    Image.new("L", (16, 16), 255).save(place / "large.png")
    (place / "text.png").write_text("no picture")
    with pytest.raises(CallError, match=text):
        niwaki.use("inpaint", small(name), place / file, mask=str(place / mask) if mask else "", condition=3)


def test_test_samples_are_measured_beside_fills_that_need_no_model() -> None:
    made = niwaki.use("inpaint", small("ddpm"), data="digits", n=6, repeats=1)
    measured = made.record["measured"]
    assert set(measured) == {"made", "mean of the training data", "nearest training sample"}
    assert all({"psnr", "ssim", "feature_distance"} <= set(figures) for figures in measured.values())
    # A network that was never trained makes noise of the hole.
    assert measured["made"]["psnr"] < measured["mean of the training data"]["psnr"]
    assert len(made.sheet) == 18  # type: ignore[arg-type]


def test_fills_leave_what_is_known() -> None:
    x, train = RNG.normal(size=(3, 1, 4, 4)), RNG.normal(size=(5, 1, 4, 4))
    known = random_holes(3, (1, 4, 4), 0.5, 0)
    assert np.array_equal(known.sum((1, 2, 3)), [12, 12, 12])
    mean, near = mean_fill(x, known, train), neighbour_fill(x, known, train)
    for i in range(3):
        here = known[i] == 1
        assert np.array_equal(mean[i][here], x[i][here])
        assert np.allclose(mean[i][~here], train.mean(0)[~here])
        best = min(train, key=lambda t: np.square(t - x[i])[here].sum())
        assert np.allclose(near[i], np.where(here, x[i], best))


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_keeps_constants_and_the_range(factor: int) -> None:
    flat = np.full((1, 1, 4, 4), 0.25, np.float32)
    assert np.allclose(bicubic(flat, factor, -1, 1), 0.25)
    x = RNG.choice([-1.0, 1.0], (2, 1, 4, 4)).astype(np.float32)
    made = bicubic(x, factor, -1, 1)
    assert made.shape == (2, 1, 4 * factor, 4 * factor)
    assert np.abs(made).max() <= 1.0
