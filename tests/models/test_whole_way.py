"""Every registered model is pruned, reloaded from disk, exported, and samples the same in both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_cases import VARIANTS, batch, make, step

from niwaki import models
from niwaki.compression import prune
from niwaki.core.contract import GenerativeModel
from niwaki.deployment import export_graphs, package, parity
from niwaki.models import load_model, save_model

LIGHT = {name: {"widths": (8, 16)} for name in ("ddpm", "edm", "flow-matching")}


def goes_the_whole_way(model: GenerativeModel, directory: Path) -> None:
    step(model, batch(model.spec))  # running statistics are not the initial ones
    small = prune(model.eval(), ratio=0.5, min_width=4, round_to=4)
    size, was = (
        sum(p.numel() for g in m.graphs().values() for p in g.module.parameters()) for m in (small, model)
    )
    assert size < 0.75 * was
    save_model(small, directory / "model")
    again = load_model(directory / "model")
    assert torch.equal(again.sample(3, seed=1), small.sample(3, seed=1))
    gradients = step(again, batch(again.spec))
    assert all(torch.isfinite(g).all() for phase in gradients.values() for g in phase.values())
    again.eval()
    save_model(again, directory / "trained")  # surgery survives a second round
    assert torch.equal(load_model(directory / "trained").sample(2, seed=1), again.sample(2, seed=1))
    bundle = package(again, export_graphs(again, directory / "graphs"), directory / "small.niwaki")
    report = parity(again, bundle, n=3)
    assert report["passed"], report


@pytest.mark.parametrize("name", models.built_in())
def test_pruned_reloaded_exported(name: str, tmp_path: Path) -> None:
    goes_the_whole_way(make(name, **LIGHT.get(name, {})), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=lambda v: v if isinstance(v, str) else ",".join(v)
)
def test_every_variant_too(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    goes_the_whole_way(make(name, **{**LIGHT.get(name, {}), **changes}), tmp_path)
