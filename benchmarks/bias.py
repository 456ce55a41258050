"""Bias before and after its two remedies, on skewed digits: most of the classes 5 … 9 are dropped.

    python benchmarks/bias.py                  # a minute or two on an idle core

A small GAN that is asked for nothing learns from the skewed split. `none` are its samples; `sampling` samples
that are balanced by rejection (`niwaki sample --balance class`); `training` those of the same model, trained
by `train.balance` on the attribute. Total variation to the test split's classes, as a classifier of the whole
training split recognises both; `rare` is the share of the classes 5 … 9.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from niwaki.data import Dataset, Split, load
from niwaki.evaluation.judges.recognising import Recogniser
from niwaki.evaluation.metrics.bias import attribute_shift
from niwaki.features import build
from niwaki.recipe import load_recipe
from niwaki.training import fit
from niwaki.workflow.balancing import balanced
from niwaki.workflow.stages.train import fresh_model

N, SEED = 1000, 0
SMALL = ["train.steps=800", "model.width=16", "model.max_width=32", "train.batch=32"]


def skewed(dataset: Dataset) -> Dataset:
    """The classes become an attribute that no model is asked for."""
    y = dataset.train.columns["class"].data.numpy()
    keep = np.flatnonzero((y < 5) | (np.random.default_rng(SEED).random(len(y)) < 0.2))
    rows = dataset.train.select(torch.from_numpy(keep))
    train = Split({"x": rows.columns["x"]}, {"kind": rows.columns["class"].data.clone()})
    others = {s: Split({"x": dataset.split(s).columns["x"]}) for s in ("validation", "test")}
    return replace(dataset, spec=train.spec, train=train, **others)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    recipe = load_recipe("digits-gan", SMALL)
    assert recipe.train is not None
    whole = load(recipe.data)
    data, by = skewed(whole), Recogniser(whole, build(["classifier"], whole, seed=SEED))
    real = by.of_split("test")["class"]

    def say(name: str, x: np.ndarray) -> None:
        found = by.of_samples(x)["class"]
        shift = attribute_shift(real, found, seed=SEED).distances["class"]
        assert shift.interval is not None
        low, high = shift.interval
        rare = float((found >= 5).mean())
        print(f"{name:9} {shift.value:.3f} [{low:.3f}, {high:.3f}] floor {shift.floor:.3f}  rare {rare:.1%}")

    for balance in (None, "kind"):
        torch.manual_seed(SEED)
        model: Any = fresh_model(recipe, data)
        fit(model, data.train, recipe.train.model_copy(update={"balance": balance}), seed=SEED)

        def make(first: int, count: int, model: Any = model) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            return np.asarray(model.backend().numpy(model.run("sample", count, seed=SEED, start=first))), {}

        say("none" if balance is None else "training", make(0, N)[0])
        if balance is None:
            taken = balanced(make, by, "class", N)
            say("sampling", taken.x)
            print(f"          {taken.record['candidates']} candidates")


if __name__ == "__main__":
    main()
