"""Translation by files and by test samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec, ValueSpec
from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import Levels

PICTURE = ValueSpec("image", (1, 8, 8), "CHW", Levels(256))


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    spec = DataSpec({"x": PICTURE, "x_b": PICTURE}, ("x_b",))
    return models.build("cyclegan", {"width": 4, "blocks": 1, "critic_width": 4}, spec).eval()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return [tmp_path / f"{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    ("to", "there", "back"), [("b", ("ab", "x"), ("ba", "x_b")), ("a", ("ba", "x_b"), ("ab", "x"))]
)
def test_it_is_the_program_of_that_way(
    to: str, there: tuple[str, str], back: tuple[str, str], model: Any, files: list[Path], tmp_path: Path
) -> None:
    made = niwaki.use("translate", model, files, to=to, out=tmp_path / "made")
    x = np.stack([np.asarray(Image.open(f), np.float32)[None] / 127.5 - 1.0 for f in files])
    want = np.asarray(model.run(f"translate_{there[0]}", 3, inputs={there[1]: x}))
    np.testing.assert_allclose(made.x, want, atol=1e-5)
    again = np.asarray(model.run(f"translate_{back[0]}", 3, inputs={back[1]: want}))
    error = np.square(x - again).mean((1, 2, 3))
    assert made.record["round_trip_psnr"] == pytest.approx((10 * np.log10(4 / error)).mean(), abs=1e-3)
    assert sorted(f.name for f in (tmp_path / "made").iterdir()) == ["0.png", "1.png", "2.png"]
    assert len(made.sheet) == 9  # type: ignore[arg-type]


def test_what_is_lacking_is_said(model: Any, files: list[Path]) -> None:
    with pytest.raises(CallError, match="name the pictures to translate"):
        niwaki.use("translate", model)
    other = models.build("vae", {"latent": 4, "width": 4}, DataSpec.of("image", (1, 8, 8), levels=17)).eval()
    with pytest.raises(CallError, match="needs the program 'translate_ab'"):
        niwaki.use("translate", other, files)
