"""A run in use: samples that arrive are taken once, in order; alarms, a proposal, resuming."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import niwaki
from niwaki.api.train import train
from niwaki.recipe import recipe_from
from niwaki.workflow.monitoring import reference
from niwaki_runtime.errors import CallError

TINY = {
    "name": "tiny",
    "data": {"source": "digits"},
    "model": {"name": "vae", "latent": 4, "width": 16},
    "train": {"steps": 4, "batch": 32, "lr": 1e-3},
    "evaluate": {"features": ["random"], "n": 100},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe_from(TINY), out=tmp_path_factory.mktemp("watched") / "run").path


def pictures(folder: Path, count: int, *, first: int = 0, shift: int = 0) -> Path:
    """Digits as files, in the order of their names and times; moved to the right by `shift` pixels."""
    folder.mkdir(exist_ok=True)
    for k, image in enumerate(load_digits().images[first : first + count], first):
        file = folder / f"{k:05d}.png"
        Image.fromarray(np.roll((image / 16 * 255).astype(np.uint8), shift, axis=1)).save(file)
        os.utime(file, (1_000_000 + k, 1_000_000 + k))
    return folder


def watch(run, tmp_path, **options):
    return niwaki.watch(run, out=tmp_path / "watch", progress=False, **options)


def test_files_are_taken_once_and_what_fills_no_block_waits(run, tmp_path):
    place = pictures(tmp_path / "in", 70)
    found = watch(run, tmp_path, inputs=place)["streams"]["inputs"]
    assert (found["blocks"], found["waiting"]) == (1, 20)
    again = watch(run, tmp_path, inputs=place)["streams"]["inputs"]
    assert (again["blocks"], again["waiting"]) == (1, 20)
    pictures(place, 40, first=70)
    more = watch(run, tmp_path, inputs=place)["streams"]["inputs"]
    assert (more["blocks"], more["waiting"]) == (2, 10)


def test_several_calls_say_what_one_call_says(run, tmp_path):
    place = pictures(tmp_path / "in", 60)
    watch(run, tmp_path, inputs=place)
    pictures(place, 90, first=60)
    parts = watch(run, tmp_path, inputs=place)
    whole = niwaki.watch(run, inputs=place, out=tmp_path / "whole", progress=False)
    for a, b in zip(*(found["streams"]["inputs"]["readings"] for found in (parts, whole)), strict=True):
        assert {k: v for k, v in a.items() if k not in ("title", "channel")} == pytest.approx(
            {k: v for k, v in b.items() if k not in ("title", "channel")}
        )


def test_inputs_that_change_raise_an_alarm_and_are_proposed_for_training(run, tmp_path):
    found = watch(run, tmp_path, inputs=pictures(tmp_path / "in", 300, shift=2))
    assert found["streams"]["inputs"]["standing"] == "alarm"
    proposal = found["proposal"]
    assert proposal["n"] <= 300
    with np.load(proposal["additions"], allow_pickle=False) as arrays:
        assert arrays["x"].shape == (proposal["n"], 1, 8, 8)
        assert arrays["x"].min() >= -1.0
    assert Path(found["streams"]["inputs"]["picture"]).is_file()


def test_samples_drawn_of_the_model_itself_raise_none(run, tmp_path):
    found = watch(run, tmp_path, outputs=run, draw=150)
    assert found["streams"]["outputs"]["standing"] != "alarm"
    assert found["proposal"] is None
    drawn = json.loads((tmp_path / "watch" / "outputs.json").read_text())["drawn"]
    watch(run, tmp_path, outputs=run, draw=100)
    assert json.loads((tmp_path / "watch" / "outputs.json").read_text())["drawn"] == drawn + 100


def test_what_the_model_makes_at_release_is_drawn_once(run, tmp_path, monkeypatch):
    drawn = []
    real = reference.released
    monkeypatch.setattr(reference, "released", lambda *a, **k: drawn.append(a[2]) or real(*a, **k))
    settings = {"outputs": run, "draw": 100, "out": tmp_path / "w"}
    first = niwaki.watch(run, **settings)
    again = niwaki.watch(run, **settings)
    assert len(drawn) == 1
    assert again["streams"]["outputs"]["blocks"] > first["streams"]["outputs"]["blocks"]
    (tmp_path / "w" / "released.npz").unlink()
    niwaki.watch(run, **settings)
    assert len(drawn) == 2


def test_training_samples_served_as_outputs_are_called_copies(run, tmp_path):
    x = niwaki.load_recipe(run / "recipe.yaml")
    from niwaki.data import load

    real = load(x.data).train.values()[:400].numpy()
    np.savez(tmp_path / "served.npz", x=real)
    found = watch(run, tmp_path, outputs=tmp_path / "served.npz")
    alarms = {r["channel"] for r in found["streams"]["outputs"]["readings"] if r["standing"] == "alarm"}
    assert "copies" in alarms


def test_rows_that_are_added_to_an_array_file_are_new(run, tmp_path):
    x = load_digits().images[:200, None].astype(np.float32) / 8 - 1
    np.save(tmp_path / "x.npy", x[:120])
    assert watch(run, tmp_path, inputs=tmp_path / "x.npy")["streams"]["inputs"]["blocks"] == 2
    np.save(tmp_path / "x.npy", x)
    found = watch(run, tmp_path, inputs=tmp_path / "x.npy")["streams"]["inputs"]
    assert (found["blocks"], found["waiting"]) == (4, 0)


def test_a_broken_picture_is_set_aside_and_does_not_stop_the_watch(run, tmp_path):
    place = pictures(tmp_path / "in", 55)
    (place / "broken.png").write_bytes(b"not a picture")
    assert watch(run, tmp_path, inputs=place)["streams"]["inputs"]["blocks"] == 1


@pytest.mark.parametrize("options, words", [
    ({}, "nothing is watched"),
    ({"inputs": "nowhere"}, "does not exist"),
    ({"inputs": ".", "margin": 2.0}, "margin"),
    ({"inputs": ".", "block": 3}, "at least 10"),
])  # fmt: skip
def test_wrong_calls_are_refused(run, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CallError, match=words):
        watch(run, tmp_path, **options)


def test_other_settings_than_before_are_refused_and_nothing_is_lost(run, tmp_path):
    place = pictures(tmp_path / "in", 60)
    watch(run, tmp_path, inputs=place)
    with pytest.raises(CallError, match="another margin"):
        watch(run, tmp_path, inputs=place, margin=0.2)
    assert watch(run, tmp_path, inputs=place)["streams"]["inputs"]["blocks"] == 1
    anew = watch(run, tmp_path, inputs=place, margin=0.2, fresh=True)
    assert anew["streams"]["inputs"]["blocks"] == 1
