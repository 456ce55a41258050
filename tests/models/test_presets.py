"""Presets: a variant is a name, a class and values; it is built, kept and read like a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from model_cases import DIGITS

from niwaki import models
from niwaki.core.contract import CallError
from niwaki.core.store import read_json, write_json
from niwaki.models import registry


@pytest.fixture(autouse=True)
def preset() -> Iterator[None]:
    registry.register_preset(
        "test-beta-vae", "vae", "β-VAE (Higgins et al. 2017)", beta=4.0, width=8, latent=6
    )
    yield
    registry._PRESETS.pop("test-beta-vae")


def test_a_preset_is_known_beside_the_models() -> None:
    assert "test-beta-vae" in models.names()
    assert "test-beta-vae" not in models.built_in()
    assert registry.presets()["test-beta-vae"].base == "vae"
    assert registry.registered("test-beta-vae") is registry.registered("vae")
    with pytest.raises(CallError, match="no model 'test-beta-vea'; did you mean 'test-beta-vae'"):
        registry.registered("test-beta-vea")


def test_its_values_are_defaults_that_a_recipe_changes() -> None:
    plain, changed = (models.config_of("test-beta-vae", values) for values in ({}, {"beta": 2.0}))
    assert (plain.beta, plain.width, changed.beta, changed.width) == (4.0, 8, 2.0, 8)  # type: ignore[attr-defined]
    assert models.config_of("vae", {}).beta == 1.0  # type: ignore[attr-defined]
    with pytest.raises(CallError, match="'test-beta-vae' has no setting 'bta'; did you mean 'beta'"):
        models.config_of("test-beta-vae", {"bta": 1})


def test_it_is_kept_under_its_name_and_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build("test-beta-vae", {}, DIGITS).eval()
    assert (model.name, type(model).name) == ("test-beta-vae", "vae")
    models.save_model(model, tmp_path)
    record = read_json(tmp_path / "model.json")
    assert record["name"] == "test-beta-vae"
    assert record["config"]["beta"] == 4.0, (
        "all settings are written, so that a later preset changes no old model"
    )
    again = models.load_model(tmp_path)
    assert (again.name, again.config) == (model.name, model.config)
    assert torch.equal(again.sample(3, seed=1), model.sample(3, seed=1))
    assert models.build("vae", {}, DIGITS).name == "vae", "the class keeps its own name"


@pytest.mark.parametrize("name", ["vae", "dcgan", "ddpm"])
def test_a_model_of_the_first_edition_is_read(name: str, tmp_path: Path) -> None:
    """Its `spec` said modality, shape, range, levels and classes in one record."""
    small = {"vae": {"width": 8}, "dcgan": {"width": 8}, "ddpm": {"widths": (8, 16), "blocks": 1, "steps": 3}}
    torch.manual_seed(0)
    model = models.build(name, small[name], DIGITS).eval()
    models.save_model(model, tmp_path)
    old = {
        "modality": "image", "shape": [1, 8, 8], "low": -1.0, "high": 1.0, "levels": 17, "classes": 10,
        "class_names": [],
    }  # fmt: skip
    write_json(tmp_path / "model.json", {**read_json(tmp_path / "model.json"), "spec": old})
    again = models.load_model(tmp_path)
    assert again.spec == DIGITS
    assert again.programs() == model.programs()
    assert torch.equal(again.sample(3, seed=1), model.sample(3, seed=1))
