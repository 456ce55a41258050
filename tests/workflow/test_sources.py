"""A run that stands on another one trains it first where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from niwaki.api.train import train
from niwaki.core.contract import CallError
from niwaki.core.store import read_json
from niwaki.models import load_model
from niwaki.recipe import recipe_from

AUTOENCODER = {"name": "spatial-vae", "width": 4, "latent": 2, "halvings": 1}
FIRST: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": AUTOENCODER,
    "train": {"steps": 3, "batch": 16, "checkpoint_every": 1},
}
SECOND: dict[str, Any] = {
    "name": "second",
    "data": {"source": "digits"},
    "model": {
        "name": "latent-diffusion", "autoencoder": AUTOENCODER, "widths": (8,), "blocks": 1, "attention": (),
    },
    "train": {"steps": 2, "batch": 16, "init_from": {"autoencoder": "runs/first"}},
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "first.yaml").write_text(yaml.safe_dump(FIRST))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_call_trains_both_and_the_second_stands_on_the_first(here: Path) -> None:
    train(recipe_from(SECOND))
    first, second = load_model(Path("runs/first/model")), load_model(Path("runs/second/model"))
    for name, value in first.state_dict().items():
        assert torch.equal(second.autoencoder.state_dict()[name], value), name
    assert not torch.equal(second.latent_std, torch.ones_like(second.latent_std))
    stamp = read_json(Path("runs/first/stages/train.json"))
    train(recipe_from(SECOND))
    assert read_json(Path("runs/first/stages/train.json")) == stamp, "what is there is left alone"


def test_what_nothing_trains_is_named(here: Path) -> None:
    wrong = {**SECOND, "train": {**SECOND["train"], "init_from": {"autoencoder": "runs/frist"}}}
    with pytest.raises(CallError, match=r"runs/frist holds no weights.*niwaki train"):
        train(recipe_from(wrong))
