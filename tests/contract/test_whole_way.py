"""Each shape goes the whole way: train, be killed, resume, prune, save, reload, export, run on the device."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contract.child import SEED, N
from contract.shapes import SHAPES, make, settings

from niwaki.compression import prune
from niwaki.deployment import export_graphs, package
from niwaki.models import load_model, save_model
from niwaki.training import fit

TESTS = Path(__file__).parents[1]


def child(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "contract.child", *map(str, words)]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=300)


NEW = ("contract-growing", "contract-wgan-gp")
"""Shapes that no registered model has: those of the others go the whole way in `tests/models`."""
NAMES = [pytest.param(name, marks=() if name in NEW else pytest.mark.slow) for name in SHAPES]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == NEW[0] else pytest.mark.slow) for n in SHAPES]
)
def test_killed_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    whole, split = make(name)
    fit(whole, split, settings(name), seed=3, directory=tmp_path / "whole")
    dead = child("train", name, tmp_path / "cut", 7)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    resumed, split = make(name)
    fit(resumed, split, settings(name), seed=3, directory=tmp_path / "cut", resume=True)
    fresh, _ = make(name)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    trained = [k for k, v in fresh.state_dict().items() if not torch.equal(v, whole.state_dict()[k])]
    assert trained, "training changed nothing"


@pytest.mark.parametrize("name", NAMES)
def test_pruned_saved_exported_and_run_on_the_device(name: str, tmp_path: Path) -> None:
    ask = SHAPES[name].ask(N)
    model, split = make(name)
    fit(model, split, settings(name), seed=3)
    before = sum(p.numel() for p in model.parameters())
    model = prune(model, ratio=0.3, round_to=1)
    assert sum(p.numel() for p in model.parameters()) < before
    pruned = model.sample(N, seed=SEED, condition=ask)
    assert torch.isfinite(pruned.float()).all()

    # Saved as config + cuts + safetensors; a fresh process builds the same network.
    save_model(model, tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model").sample(N, seed=SEED, condition=ask), pruned)
    done = child("sample", name, tmp_path / "model", tmp_path / "again.npy")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), pruned.numpy(), atol=1e-6)

    # On the device: no torch, both engines, the same samples.
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "small.niwaki")
    np.savez(tmp_path / "ask.npz", **(ask or {}))
    for engine in ("openvino", "onnxruntime"):
        done = child("run", bundle, engine, tmp_path / "ask.npz", tmp_path / f"{engine}.npy")
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.load(tmp_path / f"{engine}.npy"), pruned.numpy(), atol=1e-4)


def test_a_pruned_flow_is_still_invertible() -> None:
    model, split = make("contract-coupling-flow")
    model = prune(model, ratio=0.5, round_to=1)
    x = split.values()[:64].double()
    model.double()
    z, logdet = model.encode(x)
    torch.testing.assert_close(model.invert(z), x, atol=1e-10, rtol=0)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: model.encode(row[None])[0][0]))(x)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, logdet, atol=1e-9, rtol=0)


def test_the_transformer_with_its_cache_equals_the_one_without() -> None:
    model, _ = make("contract-kv-transformer")
    tokens = model.sample(4, seed=0)
    graph = model.graphs()["decode"]
    state = [torch.from_numpy(s.zeros(4)) for s in graph.state]
    fed = torch.cat([torch.full((4, 1), 17), tokens[:, :-1]], 1)
    rows = []
    for i in range(16):
        logits, *state = graph(fed[:, i], torch.tensor([i]), *state)
        rows.append(logits)
    torch.testing.assert_close(torch.stack(rows, 1), model.logits(tokens), atol=1e-5, rtol=0)


def test_the_penalty_is_per_sample_and_the_critic_moves_alone() -> None:
    model, split = make("contract-wgan-gp")
    before = {k: v.clone() for k, v in model.generator.state_dict().items()}
    fit(
        model,
        split,
        settings("contract-wgan-gp").model_copy(
            update={"steps": 1, "ema": 0.0, "lr": {"critic": 1e-3, "generator": 0.0}}
        ),
        seed=0,
    )
    assert all(torch.equal(v, before[k]) for k, v in model.generator.state_dict().items())
