"""Uses of adapted pipelines: pictures edited, varied and drawn, in pixels and in latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import niwaki
from niwaki.adapters import adapt_pipeline
from niwaki_runtime.samplers import sampler_from_json

pytest.importorskip("diffusers")

STEPS = 8
KINDS: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "unconditional": (lambda path: pipelines.ddim(), None),
    "classes": (lambda path: pipelines.dit(10), 3),
    "prompts": (pipelines.text_to_image, "a three"),
    "two texts": (pipelines.xl, "a three"),
    "squares": (pipelines.flux, "a three"),
    "without t5": (lambda path: pipelines.sd3(path, with_t5=False), "a three"),
}


def adapted(kind: str, path: Path) -> Any:
    options = {"without t5": {"length": 4}, "squares": {"length": 12, "size": 8}}.get(kind, {})
    return adapt_pipeline(KINDS[kind][0](path), steps=STEPS, **options)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_little_noise_changes_little(kind: str, picture: Path, tmp_path: Path) -> None:
    """Of what its autoencoder leaves of a picture, where it has one."""
    model, asked = adapted(kind, tmp_path / "words"), KINDS[kind][1]
    x = torch.from_numpy(np.asarray(Image.open(picture), np.float32)[None, None] / 127.5 - 1.0)
    kept = model.decode(model.encode(x)).numpy()
    made = [
        niwaki.use("edit", model, picture, condition=asked, strength=strength).x
        for strength in (1 / STEPS, 1.0)
    ]
    off = [float(np.abs(one - kept).mean()) for one in made]
    assert off[0] < off[1]
    sampler = model.program("edit").sampler
    assert sampler_from_json(sampler.to_json()) == sampler


def test_what_it_is_to_become_is_a_prompt(picture: Path, tmp_path: Path) -> None:
    model = adapted("prompts", tmp_path / "words")
    three, nine = (niwaki.use("edit", model, picture, condition=text).x for text in ("a three", "a nine"))
    assert not np.array_equal(three, nine)  # type: ignore[arg-type]
    both = niwaki.use("edit", model, [picture, picture], condition=["a three", "a nine"]).x
    np.testing.assert_allclose(both[:1], three, atol=1e-4)  # type: ignore[index]
    assert not np.allclose(both[0], both[1], atol=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("kind", ["unconditional", "prompts"])
def test_variations_are_several(kind: str, picture: Path, tmp_path: Path) -> None:
    model, asked = adapted(kind, tmp_path / "words"), KINDS[kind][1]
    made = niwaki.use("variations", model, picture, strengths="0.25,1", each=2, condition=asked).x
    assert made is not None
    assert made.shape == (4, 1, 8, 8)
    assert len({one.tobytes() for one in made}) == 4


@pytest.mark.parametrize("kind", ["prompts", "two texts", "without t5", "squares"])
def test_a_prompt_is_drawn(kind: str, tmp_path: Path) -> None:
    model = adapted(kind, tmp_path / "words")
    made = niwaki.use("draw", model, ["a three", "a nine"], seed=5)
    wanted = model.sample(2, seed=5, condition=["a three", "a nine"])
    np.testing.assert_allclose(made.x, wanted, atol=1e-5)


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L"))


@pytest.mark.parametrize("kind", KINDS)
def test_known_pixels_stay_in_what_is_inpainted(kind: str, picture: Path, tmp_path: Path) -> None:
    model, asked = adapted(kind, tmp_path / "words"), KINDS[kind][1]
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "made"
    options = {"condition": asked, "steps": 3, "repeats": 2}
    niwaki.use("inpaint", model, [picture], mask=str(tmp_path / "mask.png"), out=out, **options)
    before, after = pixels(picture), pixels(out / "a.png")
    assert np.array_equal(before[:, :4], after[:, :4])
    assert not np.array_equal(before[:, 4:], after[:, 4:])
    niwaki.use("outpaint", model, [picture], left=3, out=out, **options)
    assert np.array_equal(before[:, :5], pixels(out / "a.png")[:, 3:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_means_of_small_pictures_stay(kind: str, tmp_path: Path) -> None:
    model, asked = adapted(kind, tmp_path / "words"), KINDS[kind][1]
    small = np.random.default_rng(1).integers(0, 256, (4, 4), np.uint8)
    Image.fromarray(small).save(tmp_path / "small.png")
    made = niwaki.use("upscale", model, tmp_path / "small.png", condition=asked, steps=3)
    means = made.x.reshape(4, 2, 4, 2).mean((1, 3))  # type: ignore[union-attr]
    np.testing.assert_allclose(means, small / 127.5 - 1.0, atol=1e-5)
    assert np.abs(made.x).max() <= 1.0 + 1e-5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("classes", 60), pytest.param("prompts", 500, marks=pytest.mark.slow), ("squares", 60)],
)
@torch.no_grad()
def test_inverted_it_comes_back_as_what_it_was(kind: str, steps: int, picture: Path, tmp_path: Path) -> None:
    """Asked for what it was, many small steps there and back lead to what the autoencoder leaves of it. (An
    untrained XL says too much else of every x for that.)"""
    model, asked = adapted(kind, tmp_path / "words"), KINDS[kind][1]
    other = {3: 7, "a three": "a nine"}[asked]
    x = torch.from_numpy(np.asarray(Image.open(picture), np.float32)[None, None] / 127.5 - 1.0)
    kept = model.decode(model.encode(x)).numpy()

    def edited(**options: Any) -> Any:
        return niwaki.use("edit", model, picture, by="inversion", steps=steps, **options).x

    same, changed = edited(condition=asked, was=asked), edited(condition=other, was=asked)
    off, moved = np.abs(same - kept).mean(), np.abs(changed - kept).mean()
    assert off < 0.25 * np.abs(kept).mean()
    assert off < moved
    nothing = edited(condition=asked)
    assert not np.array_equal(nothing, same), "what it was is not asked"
