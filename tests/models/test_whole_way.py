"""Every registered model is pruned, reloaded from disk, exported, and does the same in both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_cases import SPECS, Case, cases, step

from niwaki.compression import PruneConfig
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.weights import sparsified
from niwaki.data.inputs import example_inputs, make_inputs
from niwaki.deployment import export_graphs, package, parity
from niwaki.models import load_model, save_model
from niwaki_runtime import load

CASES = list(cases())
FIRST = list({case.name: case for case in reversed(CASES)}.values())
"""One of every model: through its recipe, where it has one."""
OTHERS = [case for case in CASES if case not in FIRST and case.data not in SPECS]


def kind(case: Case) -> tuple[str, ...]:
    """What decides how a model goes the whole way: its family, and what its networks are."""
    try:
        model = case.model()
    except Exception:
        return (case.name,)  # its tests meet the fault; collecting the others does not
    return type(model).__module__.split(".")[2], *sorted({g.role for g in model.graphs().values()})


OF_A_KIND = list(
    {kind(case): case for case in sorted(FIRST, key=lambda case: case.split is not None)}.values()
)
"""One of every kind; exporting takes seconds for each network, so the others are among the slow tests."""
LIGHT = {"widths": (8, 16), "attention": (), "depth": 1, "layers": 2}
"""Exporting takes a time for every operator."""


def goes_the_whole_way(case: Case, directory: Path) -> None:
    config = case.model().config
    model = case.model(**{k: v for k, v in LIGHT.items() if hasattr(config, k)})
    model.shipped = tuple(model.programs())
    step(model, case.batch())  # running statistics are not the initial ones
    done = pruned(model.eval(), PruneConfig(ratio=0.5, min_width=4, round_to=4))
    small, widths = done.model, done.widths.values()
    # Of what may be cut: a state, an embedding's entries, what the graphs take and give keep their widths.
    assert sum(now for _, now in widths) < 0.75 * sum(was for was, _ in widths)
    size, was = (
        sum(p.numel() for g in m.shipped_graphs().values() for p in set(g.module.parameters()))
        for m in (small, model)
    )
    assert size < was
    save_model(small, directory / "model")
    again = load_model(directory / "model")
    assert again.shipped == model.shipped
    given = case.inputs(small, n=3)
    assert torch.equal(again.sample(3, seed=1, condition=given), small.sample(3, seed=1, condition=given))
    gradients = step(again, case.batch())
    assert all(torch.isfinite(g).all() for phase in gradients.values() for g in phase.values())
    again.eval()
    save_model(again, directory / "trained")  # surgery survives a second round
    third = load_model(directory / "trained")
    assert torch.equal(third.sample(3, seed=1, condition=given), again.sample(3, seed=1, condition=given))
    out, examples = directory / "small.niwaki", example_inputs(again, case.rows)
    bundle = package(again, export_graphs(again, directory / "graphs"), out, examples=examples)
    report = parity(again, bundle, n=3, split=case.rows)
    assert set(report["programs"]) == set(again.programs()) - {"sample"}
    assert report["passed"], report
    runner = load(bundle, engine="onnxruntime", precision="exact")
    for name in again.programs():  # a bundle can be tried without data
        made = make_inputs(runner, name, 2, examples=runner.example_inputs(name, 2))
        assert runner.run(name, 2, inputs=made).shape == (2, *again.program(name).output.shape)


HEAVY = (
    "latent-diffusion", "flowpp", "glow", "tarflow", "transformer", "spatial-vae", "hierarchical-vae",
    "residual-vq", "ddpm", "gated-pixelcnn", "state-space", "wavenet", "maskgit", "var",
    "fsq", "video-diffusion", "video-gpt", "magvit", "gan-ensemble", "cyclegan", "masked", "mmdit",
    "cascaded-diffusion", "vq-autoencoder",
)  # fmt: skip
"""Of several networks; the tests of each model of its own export it, too."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c.name in HEAVY else c for c in OF_A_KIND],
    ids=str,
)
def test_pruned_reloaded_exported(case: Case, tmp_path: Path) -> None:
    goes_the_whole_way(case, tmp_path)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_sparse_and_reloaded(case: Case, tmp_path: Path) -> None:
    model = case.model().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.01)  # no weight is zero yet, as after training
    done = sparsified(model, PruneConfig(what="weights", ratio=0.6, ranking="lamp"))
    assert done.zeros == round(0.6 * done.total)  # one ranking over all layers: exact to half a weight
    save_model(done.model, tmp_path)
    given = case.inputs(done.model, n=2)
    samples = [m.sample(2, seed=5, condition=given) for m in (load_model(tmp_path), done.model)]
    assert torch.equal(*samples)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in (*FIRST, *OTHERS) if case not in OF_A_KIND], ids=str)
def test_every_variant_too(case: Case, tmp_path: Path) -> None:
    goes_the_whole_way(case, tmp_path)
