"""Weights that nothing trains and nothing brings are told before a training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from niwaki import models
from niwaki.core.contract import Batch, Context, DataSpec, Phase, Trainable
from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki.training.chance import left_to_chance

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)


class Parts(Trainable):
    """Three layers, of which phases train two, in two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.eye = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(1, 1)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("a", ("first",), stage="one"), Phase("b", ("second",), stage="two"))

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"out": self.eye(self.second(self.first(batch.x))).square().mean()}


def config(**settings: Any) -> TrainConfig:
    stages = [{"name": "one", "steps": 1}, {"name": "two", "steps": 1}]
    return TrainConfig.model_validate({"batch": 4, "stages": stages, **settings})


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, ("eye",)),
        ({"freeze": ["first"]}, ("first", "eye")),
        ({"freeze": ["first"], "init_from": {"first": "runs/a"}}, ("eye",)),
        ({"init_from": {"eye": "runs/a:head"}}, ()),
        ({"init_from": {"eye.weight": "runs/a"}}, ("eye",)),
        ({"init_from": "runs/a"}, ()),
        ({"init_from": "runs/a", "init_only": ["first"]}, ("eye",)),
    ],
)
def test_what_is_left_to_chance(settings: dict[str, Any], left: tuple[str, ...]) -> None:
    assert left_to_chance(Parts(), config(**settings)) == left


def test_a_stage_may_bring_them_and_what_is_fixed_on_purpose_is_no_matter() -> None:
    stages = [{"name": "one", "steps": 1, "init_from": {"eye": "runs/a"}}, {"name": "two", "steps": 1}]
    assert left_to_chance(Parts(), config(stages=stages)) == ()
    fixed = Parts()
    fixed.eye.requires_grad_(False)
    assert left_to_chance(fixed, config()) == ()


@pytest.mark.parametrize(
    ("name", "settings", "left"),
    [
        ("kl-autoencoder", {"perceptual": 1.0, "width": 8, "encoder_width": 16}, ("perceptual",)),
        ("vq-autoencoder", {"perceptual": 1.0, "width": 8, "encoder_width": 16}, ("perceptual",)),
        ("kl-autoencoder", {"width": 8}, ()),
        ("vae", {"width": 8}, ()),
        ("dcgan", {"width": 8}, ()),
    ],
)
def test_models_whose_parts_come_from_elsewhere(
    name: str, settings: dict[str, Any], left: tuple[str, ...]
) -> None:
    stages = {p.stages[0]: None for p in models.build(name, settings, DIGITS).phases() if p.stages}
    given = {"stages": [{"name": stage, "steps": 1} for stage in stages]} if stages else {}
    made = models.build(name, settings, DIGITS)
    assert left_to_chance(made, TrainConfig.model_validate(given)) == left


def test_it_is_said_once_before_the_training() -> None:
    said: list[str] = []
    split = Split.of(DataSpec.of("vector", (4,)), torch.rand((8, 4)))
    fit(Parts(), split, config(), seed=0, note=said.append)
    assert [text for text in said if "chance" in text] == [
        "eye: nothing trains all weights of this, and no train.init_from brings them; they stay as chance "
        "makes them"
    ]
