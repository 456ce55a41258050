"""Every registered model is pruned, reloaded from disk, exported, and samples the same in both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_cases import VARIANTS, batch, make, step

from niwaki import models
from niwaki.compression import prune
from niwaki.core.contract import GenerativeModel
from niwaki.data import Split
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


@pytest.mark.parametrize("name", models.built_in())
def test_every_program_runs_in_both_engines(name: str, tmp_path: Path) -> None:
    """Also those that are not shipped unless a recipe asks for them."""
    model = make(name, **LIGHT.get(name, {}))
    if set(model.shipped_programs()) == set(model.programs()):
        pytest.skip("the whole way ships all of its programs")
    step(model, batch(model.spec))
    model.shipped = tuple(model.programs())
    graphs = export_graphs(model.eval(), tmp_path / "graphs")
    bundle = package(model, graphs, tmp_path / "all.niwaki")
    data = batch(model.spec, n=3)
    split = Split.of(model.spec, data["x"], data.get("class"))
    report = parity(model, bundle, n=3, split=split)
    assert report["passed"], report
    assert set(report["programs"]) | {"sample"} >= set(model.programs())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), VARIANTS, ids=lambda v: v if isinstance(v, str) else ",".join(v)
)
def test_every_variant_too(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    goes_the_whole_way(make(name, **{**LIGHT.get(name, {}), **changes}), tmp_path)
