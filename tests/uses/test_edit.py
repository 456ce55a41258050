"""Edits and variations: how much of a picture stays, and what must be said."""

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
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
KINDS = ["ddpm", "edm", "flow-matching"]


def small(name: str) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 8}}
    return models.build(name, settings if name != "vae" else {"latent": 6, "width": 4}, DIGITS).eval()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def given(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file), np.float32)[None, None] / 127.5 - 1.0


@pytest.mark.parametrize("name", KINDS)
def test_little_noise_changes_little(name: str, picture: Path) -> None:
    model, x = small(name), given(picture)
    off = [
        float(np.abs(niwaki.use("edit", model, picture, condition=3, strength=s).x - x).mean())  # type: ignore[operator]
        for s in (0.125, 0.5, 1.0)
    ]
    assert off[0] < off[1] < off[2]


def test_latents_are_edited_as_pixels_are(picture: Path) -> None:
    """Of a picture as its autoencoder keeps it."""
    torch.manual_seed(0)
    settings = {
        "widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 8},
        "autoencoder": {"name": "spatial-vae", "width": 4},
    }  # fmt: skip
    model = models.build("latent-diffusion", settings, DIGITS).eval()
    x = given(picture)
    kept = np.asarray(model.run("decode", 1, inputs={"z": np.asarray(model.run("encode", 1, inputs=x))}))
    off = [
        float(np.abs(niwaki.use("edit", model, picture, condition=3, strength=s).x - kept).mean())  # type: ignore[operator]
        for s in (0.125, 1.0)
    ]
    assert off[0] < off[1]


@pytest.mark.parametrize("name", KINDS)
def test_inversion_to_what_it_was_is_the_way_there_and_back(name: str, picture: Path) -> None:
    model, x = small(name), given(picture)
    same = niwaki.use("edit", model, picture, by="inversion", condition=3, was=3)
    z = model.run("encode", 1, inputs={"x": x, "class": 3})
    back = model.run("decode", 1, inputs={"z": np.asarray(z), "class": 3})
    np.testing.assert_allclose(same.x, back, atol=1e-4)
    other = niwaki.use("edit", model, picture, by="inversion", condition=4, was=3)
    assert not np.array_equal(same.x, other.x)  # type: ignore[arg-type]
    free = niwaki.use("edit", model, picture, by="inversion", condition=3)
    null = niwaki.use("edit", model, picture, by="inversion", condition=3, was=10)
    assert np.array_equal(free.x, null.x)  # type: ignore[arg-type]


def test_variations_are_several_and_move_away(picture: Path, tmp_path: Path) -> None:
    made = niwaki.use("variations", small("ddpm"), picture, strengths="0.125,1", each=3, condition=3)
    assert made.x is not None
    assert made.x.shape == (6, 1, 8, 8)
    assert (made.columns, len(made.sheet)) == (7, 7)  # type: ignore[arg-type]
    off = np.abs(made.x - given(picture)).mean((1, 2, 3))
    assert off[:3].max() < off[3:].min()
    assert len({v.tobytes() for v in made.x}) == 6
    made.write(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 6
    again = niwaki.use("edit", small("ddpm"), picture, strength=1.0, condition=3)
    np.testing.assert_allclose(again.x, made.x[3:4], atol=1e-5)


def test_variations_of_test_samples_are_measured() -> None:
    found = niwaki.use("variations", small("ddpm"), data="digits", n=3, strengths=[0.125, 1], each=2)
    near, far = found.record["measured"].values()
    assert near["psnr"] > far["psnr"]
    assert near["feature_distance"] < far["feature_distance"] < 100


@pytest.mark.parametrize(
    ("use", "name", "options", "text"),
    [
        ("edit", "ddpm", {}, "what the pictures are to become"),
        ("edit", "vae", {"condition": 3}, "needs the program 'edit'"),
        ("edit", "dcgan", {"condition": 3, "by": "inversion"}, "needs the programs encode and decode"),
        ("edit", "ddpm", {"condition": 3, "strength": 0.0}, "strength"),
        ("variations", "vae", {"condition": 3}, "needs the program 'edit'"),
        ("variations", "ddpm", {"condition": 3, "strengths": [0.5, 2.0]}, "strengths lie above 0"),
    ],
)
def test_what_is_lacking_is_said(
    use: str, name: str, options: dict[str, Any], text: str, picture: Path
) -> None:
    model = small(name) if name != "dcgan" else models.build("dcgan", {"width": 4}, DIGITS).eval()
    with pytest.raises(CallError, match=text):
        niwaki.use(use, model, picture, **options)
