"""Uses of diffusion on latents: what is known of a picture comes out as it was given."""

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
from niwaki.deployment import export_graphs, package
from niwaki_runtime import load
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    settings = {
        "widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 4},
        "autoencoder": {"name": "spatial-vae", "width": 4},
    }  # fmt: skip
    model = models.build("latent-diffusion", settings, DIGITS).eval()
    for parameter in model.denoiser.parameters():  # layers that begin near zero hear no condition
        if parameter.ndim > 1 and parameter.detach().abs().mean() < 0.01:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:3, 2:7] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "a.png"


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L"))


def test_known_pixels_stay(model: Any, picture: Path, tmp_path: Path) -> None:
    niwaki.use("inpaint", model, [picture], mask=str(tmp_path / "mask.png"), condition=3, out=tmp_path / "in")
    before, after = pixels(picture), pixels(tmp_path / "in" / "a.png")
    known = pixels(tmp_path / "mask.png") == 0
    assert np.array_equal(before[known], after[known])
    assert not np.array_equal(before[~known], after[~known])
    niwaki.use("outpaint", model, [picture], top=3, condition=3, out=tmp_path / "out")
    assert np.array_equal(before[:5], pixels(tmp_path / "out" / "a.png")[3:])


def test_what_is_hidden_is_never_read(model: Any, picture: Path, tmp_path: Path) -> None:
    hidden = pixels(picture).copy()
    hidden[pixels(tmp_path / "mask.png") == 255] = 0
    Image.fromarray(hidden).save(tmp_path / "hidden.png")
    options = {"mask": str(tmp_path / "mask.png"), "condition": 3}
    one, two = (niwaki.use("inpaint", model, [f], **options).x for f in (picture, tmp_path / "hidden.png"))
    assert np.array_equal(one, two)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", ["inpaint", "outpaint", "upscale"])
def test_test_samples_are_measured_beside_what_needs_no_model(use: str, model: Any) -> None:
    options = {"inpaint": {"repeats": 1}, "outpaint": {"repeats": 1, "left": 2}, "upscale": {}}[use]
    made = niwaki.use(use, model, data="digits", n=6, **options)
    simple = {
        "inpaint": {"mean of the training data", "nearest training sample"},
        "outpaint": {"mean of the training data", "nearest known pixel"},
        "upscale": {"bicubic", "nearest pixel"},
    }[use]
    assert set(made.record["measured"]) == {"made", *simple}
    if use == "upscale":
        assert made.record["mean_off_at_most"] < 1e-5


def test_edited_by_the_noise_of_its_latents(model: Any, picture: Path) -> None:
    x = pixels(picture).astype(np.float32)[None, None] / 127.5 - 1.0
    z = np.asarray(model.run("encode", 1, inputs=x))
    kept = np.asarray(model.run("decode", 1, inputs={"z": z}))

    def edited(condition: int, **options: Any) -> Any:
        return niwaki.use("edit", model, picture, by="inversion", steps=200, condition=condition, **options).x

    same = edited(3, was=3)
    assert np.abs(same - kept).mean() < 0.1 * np.abs(kept).mean()
    assert not np.array_equal(edited(4, was=3), same)
    assert np.array_equal(edited(3), edited(3, was=10)), "nothing said is nothing asked"
    with pytest.raises(CallError, match="say what the pictures are to become"):
        niwaki.use("edit", model, picture, by="inversion")


@pytest.mark.slow
def test_a_bundle_does_them(model: Any, picture: Path, tmp_path: Path) -> None:
    model.shipped = ("sample", "inpaint", "upscale", "invert")
    bundle = package(model, export_graphs(model, tmp_path / "graphs", check=False), tmp_path / "m.niwaki")
    small = tmp_path / "small.png"
    Image.fromarray(pixels(picture)[:4, :4]).save(small)
    for use, file, options in (
        ("inpaint", picture, {"mask": str(tmp_path / "mask.png")}),
        ("upscale", small, {}),
        ("edit", picture, {"by": "inversion", "was": 5}),
    ):
        wanted = niwaki.use(use, model, file, condition=3, **options).x
        for engine in ("onnxruntime", "openvino"):
            runner = load(bundle, engine=engine, precision="exact")
            made = niwaki.use(use, runner, file, condition=3, **options).x
            np.testing.assert_allclose(made, wanted, atol=1e-3)
