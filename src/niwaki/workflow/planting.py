"""The planted-duplicate audit: training samples are repeated on purpose, the model is trained, and it is
asked which of them it gives out, and whether the measures of memorisation notice.

Repetition is what makes models memorise most (Carlini et al., "Extracting training data from diffusion
models", USENIX Security 2023), so this shows what a
recipe does with data that were not deduplicated, and what its measures can see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.store import hash_json
from niwaki.data import Dataset, Split
from niwaki.data import load as load_data
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.extractor_checks.gate import memorisation_gate
from niwaki.evaluation.memorization.authenticity import authenticity
from niwaki.evaluation.memorization.copies import Copies, find_copies
from niwaki.evaluation.memorization.copying_test import copying_test
from niwaki.evaluation.statistics.result import wilson
from niwaki.evaluation.statistics.shares import difference
from niwaki.features import build
from niwaki.recipe import Overrides, Recipe, load_recipe
from niwaki.training import fit
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.stages.train import fresh_model

__all__ = ["measured", "plant_duplicates", "planted_split"]

_FEATURES = "random"
"""Features that no training sample has shaped: a trained one would know those by heart too."""

_LEVEL = 0.05
"""Chance of an alarm of each measure, where nothing is given out."""


def planted_split(
    split: Split, planted: int, repeats: int, seed: int
) -> tuple[Split, np.ndarray, np.ndarray]:
    """(the split with `planted` of its rows `repeats` times each, those rows, as many others as controls).

    Raises CallError where there are too few rows.
    """
    if planted < 1 or repeats < 2:
        raise CallError("plant at least one sample, at least twice")
    if len(split) < 4 * planted:
        raise CallError(
            f"{planted} of {len(split)} training samples are too many to plant; plant {len(split) // 4}"
        )
    drawn = np.random.default_rng(seed).permutation(len(split))[: 2 * planted]
    chosen, controls = drawn[:planted], drawn[planted:]
    rows = np.concatenate([np.arange(len(split)), np.repeat(chosen, repeats - 1)])
    return split.select(torch.from_numpy(rows)), np.sort(chosen), np.sort(controls)


def plant_duplicates(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    planted: int = 20,
    repeats: int = 50,
    n: int = 1000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train the recipe's model on data with planted duplicates, in memory; nothing is kept of it.

    planted: training samples that are repeated; repeats: how often each is then there
    n:       samples that the model is asked for; seed: of the choice, the training and the samples
    A row is *given out* where a sample is nearer to it than to any other training sample, and nearer than
    99 % of the test samples are to theirs (`find_copies`); the controls, rows that were not repeated, say how
    often that happens anyway.
    Raises CallError for a recipe that trains no generative model, and for too few samples.
    """
    reporter = reporter or Quiet()
    recipe = load_recipe(what, overrides)
    if recipe.train is None or recipe.encodes:
        raise CallError("duplicates are planted where a generative model is trained; this recipe trains none")
    dataset = load_data(recipe.data)
    split, chosen, controls = planted_split(dataset.train, planted, repeats, seed)
    plan = [planted, repeats, seed]
    audited = replace(dataset, train=split, fingerprint=hash_json([dataset.fingerprint, "planted", plan]))
    reporter.stage("train", f"{planted} samples {repeats} times each among {len(split):,}")
    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = fresh_model(recipe, audited)
    torch.set_rng_state(torch_state)
    assert isinstance(model, GenerativeModel)
    fit(
        model, split, recipe.train, seed=seed, validation=dataset.validation,
        progress=lambda done, total, metrics: reporter.update(done, total, {}),
    )  # fmt: skip
    reporter.stage("sample", f"{n} of seed {seed}")
    inputs = make_inputs(model, "sample", n, split)
    made = model.backend().numpy(model.run("sample", n, seed=seed, inputs=inputs))
    copies, measures = measured(dataset, np.asarray(made), seed)
    close = copies.distance < copies.limit
    out = {int(row) for row in copies.index[close | copies.equal]}
    given, anyway = (sum(int(row) in out for row in rows) for rows in (chosen, controls))
    return {
        "planted": planted,
        "repeats": repeats,
        "share": planted * repeats / len(split),
        "n": n,
        "seed": seed,
        "train": len(split),
        "given_out": {"count": given, "share": given / planted, "interval": list(wilson(given, planted))},
        "controls": {"count": anyway, "share": anyway / planted, "interval": list(wilson(anyway, planted))},
        "difference": list(difference(given, planted, anyway, planted)),
        "rows": {"planted": chosen.tolist(), "given_out": sorted(out & set(chosen.tolist()))},
        "measures": measures,
    }


def measured(dataset: Dataset, made: np.ndarray, seed: int) -> tuple[Copies, dict[str, Any]]:
    """The copies among samples `(n, *shape)`, and what each measure says against the training split."""
    extractor = build([_FEATURES], dataset, seed=seed)[0]
    train, test, x = (extractor(values) for values in (dataset.train.values(), dataset.test.values(), made))
    spec = dataset.spec
    copies = find_copies(
        train, test, x, train_samples=dataset.train.values().numpy(), generated_samples=made,
        span=spec.high - spec.low, levels=spec.levels, name=_FEATURES,
    )  # fmt: skip
    gate = memorisation_gate(copies)
    authentic = authenticity(train, x, test=test)
    nearer = copying_test(train, test, x, seed=seed)
    assert authentic.interval is not None
    floor = authentic.floor if authentic.floor is not None else 1.0
    return copies, {
        "gate": {"alarm": not gate.passed, "close": gate.close, "allowed": gate.allowed, "text": gate.text},
        "authenticity": {
            "alarm": authentic.interval[1] < floor,
            "value": authentic.value,
            "interval": list(authentic.interval),
            "floor": floor,
        },
        "copying_test": {
            "alarm": nearer.p_value < _LEVEL,
            "value": nearer.score.value,
            "p_value": nearer.p_value,
        },
    }
