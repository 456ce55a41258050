"""Clips of any length: windows join where they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import niwaki
from niwaki import models
from niwaki.core.contract import CallError, DataSpec, ValueSpec

CLIP = ValueSpec("video", (4, 1, 8, 8), "TCHW")
SPEC = DataSpec({"x": CLIP, "past": ValueSpec("video", (2, 1, 8, 8), "TCHW"), "class": ValueSpec.label(3)})
TOKENS: dict[str, Any] = {"width": 4, "prior_width": 16, "prior_heads": 2, "prior_layers": 1}


def small(spec: DataSpec = SPEC) -> Any:
    torch.manual_seed(0)
    return models.build("video-gpt", TOKENS, spec).eval()


@pytest.mark.parametrize("frames", [1, 4, 5, 8, 15])
def test_every_window_is_what_continue_makes_of_the_last_frames(frames: int, tmp_path: Path) -> None:
    model = small()
    made = niwaki.use("extend", model, condition=1, frames=frames, n=2, seed=3, out=tmp_path / "x.gif")
    assert made.x is not None
    want = np.asarray(model.sample(2, seed=3, condition=1))
    for window in range(1, 4):
        given = {"past": want[:, -2:], "class": 1}
        want = np.concatenate([want, np.asarray(model.run("continue", 2, seed=3 + window, inputs=given))], 1)
    np.testing.assert_allclose(made.x, want[:, :frames], atol=1e-6)
    with Image.open(tmp_path / "x.gif") as file:
        assert getattr(file, "n_frames", 1) <= frames


def test_each_clip_keeps_its_class() -> None:
    model = small()
    made = niwaki.use("extend", model, condition=[2, 0], frames=8, n=3)
    alone = niwaki.use("extend", model, condition=2, frames=8, n=1)
    assert made.x is not None
    assert alone.x is not None
    np.testing.assert_allclose(made.x[:1], alone.x, atol=1e-5)


def test_a_model_that_continues_nothing_is_refused_by_one_sentence() -> None:
    without = DataSpec({"x": CLIP, "class": ValueSpec.label(3)})
    with pytest.raises(CallError, match="needs a program 'continue'"):
        niwaki.use("extend", small(without), condition=1)
