"""Least squares after a cut: against a solver of its own, exact where nothing was lost, and in a plan."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from compression import small_models
from compression.quantization.test_adaptive import LAYERS
from torch import nn

from niwaki.compression import PruneConfig, prune
from niwaki.compression.forward import outputs
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.dependencies.dependency_graph import couplings, cuts_of
from niwaki.compression.pruning.refit import Moments, refit
from niwaki.compression.pruning.trial import Trial
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.design import input_rows, weight_rows
from niwaki.core.contract import CallError, DataSpec, NiwakiError
from niwaki.core.errors import NothingToDo
from niwaki.deployment import export_graphs, package, parity
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig
from niwaki.surgery.cuts import find, reorder, width
from niwaki.surgery.edits import apply_edits
from niwaki.surgery.sparse import Sparse


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_layer_is_solved_as_a_least_squares_solver_does(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(64, *shape[1:])
    wanted = torch.randn_like(layer(x))
    y = (wanted if isinstance(layer, nn.Linear) else wanted.movedim(1, -1)).flatten(0, -2)
    groups = getattr(layer, "groups", 1)
    columns = torch.cat([c for (c,) in input_rows(layer, x)], 1).double()
    if layer.bias is not None:
        columns = torch.cat([columns, torch.ones_like(columns[..., :1])], 2)
    target = y.double().unflatten(1, (groups, -1)).transpose(0, 1)
    solution = torch.linalg.lstsq(columns, target).solution.mT  # (groups, outputs, columns)
    left = float((columns @ solution.mT - target).square().sum() / (y - y.mean(0)).square().sum())
    sums = Moments(layer)
    for part in (slice(0, 40), slice(40, 64)):  # in two calls
        sums.add(x[part], wanted[part])
    _, now = sums.solve(0.0)
    assert now == pytest.approx(left, rel=1e-4)
    rows = weight_rows(layer, layer.weight).double()
    torch.testing.assert_close(rows, solution[..., : rows.shape[-1]], rtol=1e-3, atol=1e-4)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.double(), solution[..., -1].flatten(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("body", ["plain", "transposed", "hard"])
@torch.no_grad()
def test_channels_that_others_hold_are_cut_without_a_trace(body: str) -> None:
    """Of every coupling one unit is a copy of another: what used both can do with one."""
    model = small_models.gan(body).eval()
    trial, removed = Trial(model), []
    for coupling in map(trial.tried, couplings(model)):
        normed = any(isinstance(find(model, m.module), nn.GroupNorm) for m in coupling.members)
        if coupling.protected or coupling.blocks > 1 or normed:
            continue
        for m in coupling.members:
            if m.side != "in":
                target = find(model, m.module)
                order = list(range(width(target, m.side)))
                for copied, place in zip(m.positions[0], m.positions[1], strict=True):
                    order[place] = copied
                reorder(target, m.side, order)
        removed.append((coupling, (1,)))
    assert removed
    cuts = cuts_of(model, removed)
    items = calibration_inputs(model, 512)
    without, made = copy.deepcopy(model), copy.deepcopy(model)
    apply_edits(without, cuts)
    apply_edits(made, cuts)
    found = refit(made, model, cuts, items, share=1e-8)
    assert not found.skipped
    wanted = outputs(model, 32)[0]
    lost, left = ((outputs(m, 32)[0] - wanted).abs().max() / wanted.abs().max() for m in (without, made))
    assert lost > 0.02
    assert left < 2e-3
    assert left < lost / 20


def trained() -> Any:
    return copy.deepcopy(_trained())


@cache
def _trained() -> Any:
    """A small generator that has learned ten shapes, stretched by its latent: a second of training."""
    model = small_models.gan(width=16)
    rng = torch.Generator().manual_seed(0)
    shapes, tilt = torch.randn(10, 1, 8, 8, generator=rng), torch.randn(12, 64, generator=rng) / 4
    optimizer = torch.optim.Adam(model.generator.parameters(), 5e-3)
    for _ in range(120):
        z, y = torch.randn(64, 12, generator=rng), torch.randint(0, 10, (64,), generator=rng)
        wanted = torch.tanh(shapes[y] + (z @ tilt).reshape(-1, 1, 8, 8))
        loss = (model.generator(z, y) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_trained_model_loses_less_and_its_bundle_computes_what_it_does(tmp_path: Path) -> None:
    model = trained()
    wanted = model.sample(128, seed=5)

    def lost(made: Any) -> float:
        return float((made.sample(128, seed=5) - wanted).square().mean() / wanted.var())

    config = PruneConfig(ratio=0.25, round_to=1, min_width=2, importance="activation")
    without = pruned(model, config)
    done = pruned(model, config.model_copy(update={"refit": True}))
    assert done.widths == without.widths
    assert lost(done.model) < 0.6 * lost(without.model)
    assert done.refitted[0].startswith("refitted 4 layers")
    paths = export_graphs(done.model, tmp_path)
    assert parity(done.model, package(done.model, paths, tmp_path / "a.niwaki"), n=4)["passed"]


def test_each_round_is_refitted_and_the_model_stays_as_it_is() -> None:
    model = trained()
    before = copy.deepcopy(model.state_dict())
    done = pruned(model, PruneConfig(ratio=0.5, rounds=2, round_to=1, min_width=2, refit=True))
    assert len(done.refitted) == 2
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_layers_that_run_at_every_step_are_solved_over_all_steps() -> None:
    """A recurrent prior is called once for each token, with a position that has no batch axis."""
    torch.manual_seed(0)
    model = small_models.recurrent().eval()
    config = PruneConfig(ratio=0.25, round_to=1, min_width=2)
    without, done = pruned(model, config), pruned(model, config.model_copy(update={"refit": True}))
    (told,) = done.refitted
    assert not told.startswith("refitted 0")
    wanted, *others = (
        torch.cat([o.flatten() for o in outputs(m, 64)[:1]]) for m in (model, without.model, done.model)
    )
    lost, left = ((o - wanted).square().mean() for o in others)
    assert left < 0.7 * lost


def test_one_pass_for_all_layers_and_one_for_each_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained()
    config = PruneConfig(ratio=0.25, round_to=1, min_width=2, refit=True)
    once = pruned(model, config).model
    monkeypatch.setattr("niwaki.compression.pruning.refit.as_batches", lambda *_: {})
    each = pruned(model, config).model
    for a, b in zip(outputs(once, 8), outputs(each, 8), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_solved_is_refused_or_named() -> None:
    model = trained()
    model.surgery = (Sparse(tuple(n for n, _ in model.named_parameters() if n.endswith("weight"))),)
    with pytest.raises(NiwakiError, match="no layer that uses the cut channels can be solved again"):
        prune(model, ratio=0.5, round_to=1, min_width=2, refit=True)
    with pytest.raises(CallError, match="'refit' means nothing for pruning weights"):
        PruneConfig(what="weights", refit=True)
    with pytest.raises(CallError, match="'refit' means nothing for pruning channels by 'l0'"):
        PruneConfig(method="l0", train=10, refit=True)
    with pytest.raises(NothingToDo):
        prune(trained(), ratio=0.01, refit=True)


def test_records_of_plans_without_it_stay_as_they_were() -> None:
    assert "refit" not in PruneConfig().model_dump()
    assert PruneConfig(refit=True).model_dump()["refit"] is True


def test_layers_after_heads_that_went_with_their_cache_are_solved_again() -> None:
    """Recorded keys and values are as wide as the model was: only calls that remember nothing fit both."""
    torch.manual_seed(0)
    config = TransformerConfig(width=32, depth=2, heads=4, stride=8, dropout=0.0)
    model = Transformer(config, DataSpec.of("text", (16,), levels=20)).eval()
    settings = PruneConfig(ratio=0.5, heads="only", min_width=1)
    x = torch.randint(0, 20, (64, 16), generator=torch.Generator().manual_seed(1))
    wanted, lost = model.logits(x), {}
    for solved in (False, True):
        made = pruned(model, settings.model_copy(update={"refit": solved}), samples=128)
        lost[solved] = (made.model.logits(x) - wanted).square().mean().item()
    assert made.refitted
    assert lost[True] < 0.9 * lost[False]
