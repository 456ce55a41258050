"""Several conditions at once by a call: what is asked, and what a caller is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec
from niwaki.uses import find_use
from niwaki_runtime.compose import compose
from niwaki_runtime.errors import CallError

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
SMALL: dict[str, Any] = {"widths": (8,), "blocks": 1, "attention": (), "sampling": {"steps": 2}}


def small(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    model = models.build(name, {**SMALL, **changes} if name != "vae" else {"latent": 6, "width": 4}, DIGITS)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.05)
    return model.eval()


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
def test_a_call_is_what_the_runtime_composes(name: str) -> None:
    model = small(name)
    asked = [{"class": 3}, {"class": 8}]
    made = niwaki.use("compose", model, conditions=asked, factors=[1.0, -0.5], n=4, seed=2)
    assert np.array_equal(made.x, compose(model, 4, asked, [1.0, -0.5], seed=2).numpy())
    assert made.lines == ["4 samples of nothing asked +1 × (class 3) -0.5 × (class 8)"]
    one = niwaki.use("compose", model, conditions=[{"class": 3}], n=4, seed=2)
    assert np.array_equal(one.x, model.sample(4, seed=2, condition=3).numpy())


def test_several_values_are_taken_in_turn() -> None:
    model = small("ddpm")
    made = niwaki.use("compose", model, conditions=[{"class": ["1", "2"]}, {"class": 5}], n=4)
    rows = [{"class": np.array([1, 2, 1, 2])}, {"class": np.full(4, 5)}]
    assert np.array_equal(made.x, compose(model, 4, rows).numpy())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("ddpm", {}, "say what is asked at once"),
        (
            "ddpm",
            {"conditions": [{"class": 3}], "factors": [1, 2]},
            "1 conditions need one weight each, not 2",
        ),
        ("ddpm", {"conditions": [{"colour": 3}]}, "'colour' cannot be composed"),
        (
            "vae",
            {"conditions": [{"class": 3}]},
            "only a diffusion model with a condition that can be left out",
        ),
        ("ddpm", {"conditions": [{"class": 3}], "condition": "4"}, "say by name what is asked beside"),
    ],
)
def test_what_cannot_be_is_said(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        niwaki.use("compose", small(name), **options)


@pytest.mark.parametrize("factors", ["1,-0.5", "[1, -0.5]", [1, -0.5], (1.0, -0.5)])
def test_factors_are_read_as_shells_give_them(factors: Any) -> None:
    read = find_use("compose").options({"conditions": [{"class": 3}, {"class": 8}], "factors": factors})
    assert read.factors == (1.0, -0.5)  # type: ignore[attr-defined]
