"""Leading by files and by test samples: what is measured, and what a caller is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec, Levels, ValueSpec
from niwaki.uses.control import correlations
from niwaki_runtime.errors import CallError

IMAGES = DataSpec.of("image", (3, 8, 8), classes=10)
EDGES = ValueSpec("image", (1, 8, 8), "CHW", Levels(2, -1.0, 1.0))
SMALL: dict[str, Any] = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 2}}


def small(name: str = "edges", spec: DataSpec = IMAGES) -> Any:
    torch.manual_seed(0)
    led = DataSpec({**spec.columns, name: EDGES})
    settings = {"base": {"name": "ddpm", **SMALL}, "control": name, "width": 4}
    return models.build("controlnet", settings, led).eval()


def write(place: Path) -> np.ndarray:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6] = (255, 40, 40)
    Image.fromarray(pixels).save(place)
    return pixels


def test_a_picture_leads_by_its_edges_and_edges_lead_by_themselves(tmp_path: Path) -> None:
    write(tmp_path / "square.png")
    model = small()
    made = niwaki.use("control", model, tmp_path / "square.png", condition={"class": 3})
    assert made.record["n"] == 1
    assert set(made.record["measured"]) == {"as asked"}
    edges = np.asarray(made.sheet)[0, 0]
    Image.fromarray(np.uint8(127.5 * (edges + 1))).save(tmp_path / "edges.png")
    again = niwaki.use("control", model, tmp_path / "edges.png", condition={"class": 3}, given="control")
    assert np.array_equal(made.x, again.x)


def test_several_of_each_are_asked_in_turn(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    model, files = small(), [tmp_path / "a.png", tmp_path / "b.png"]
    made = niwaki.use("control", model, files, condition={"class": ["1", "2"]}, each=2)
    assert list(made.names) == ["a.png", "a.png", "b.png", "b.png"]
    rows = np.repeat(np.asarray(made.sheet)[:1, :1], 4, 0)
    asked = {"class": np.array([1, 2, 1, 2]), "edges": rows}
    assert np.array_equal(made.x, model.sample(4, condition=asked).numpy())


def test_test_samples_are_led_by_their_own_edges() -> None:
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
    recipe = {"source": "digits", "derive": ["edges"]}
    made = niwaki.use("control", small(spec=spec), data=recipe, n=6)
    assert len(made.sheet) == 12  # type: ignore[arg-type]
    figures = made.record["measured"]
    assert set(figures) == {"as asked", "as others were asked"}
    assert all(low <= f["correlation"] <= high for f in figures.values() for low, high in [f["interval"]])


def test_correlations() -> None:
    a = np.random.default_rng(0).standard_normal((5, 2, 3, 3))
    b = np.random.default_rng(1).standard_normal((5, 2, 3, 3))
    wanted = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlations(a, b), wanted)
    np.testing.assert_allclose(correlations(a, 3 * a + 1), 1.0)
    assert correlations(a, 0 * a).tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        ("ddpm", {}, "needs a model that is led by a picture"),
        ("controlnet", {"condition": "12"}, "there is no class '12'|'12' is no class|outside"),
        ("depth", {}, "'depth' cannot be computed from pictures"),
    ],
)
def test_what_cannot_be_is_said(model: str, options: dict[str, Any], text: str, tmp_path: Path) -> None:
    write(tmp_path / "square.png")
    made = {
        "ddpm": lambda: models.build("ddpm", SMALL, IMAGES).eval(),
        "controlnet": small,
        "depth": lambda: small("depth"),
    }[model]()
    with pytest.raises(CallError, match=text):
        niwaki.use("control", made, tmp_path / "square.png", **options)
