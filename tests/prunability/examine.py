"""What is asked of every architecture: prune, forwards, backwards, save, reload elsewhere, export, parity."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from prunability.zoo import Case

from niwaki.compression import PruneConfig
from niwaki.compression.forward import outputs
from niwaki.compression.pruning.channels import pruned
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.deployment import export_graphs
from niwaki.deployment.bake import bake
from niwaki.deployment.check import graph_errors, open_runner
from niwaki.models import save_model
from niwaki_runtime.engines import available

TOLERANCE = 1e-4  # of the largest output


@dataclass
class Finding:
    """before, after: parameters of what sampling uses; cut: couplings that became narrower, of
    `couplings`."""

    name: str
    family: str
    ratio: float
    before: int = 0
    after: int = 0
    cut: int = 0
    couplings: int = 0
    refused: str = ""
    errors: dict[str, float] = field(default_factory=dict)


class Reader:
    """Another process, in which models are read back: it never saw the originals."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prunability.reader"], cwd=Path(__file__).parent.parent, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def same(self, directory: Path) -> str:
        """Empty where the model in `directory` computes what is kept beside it, bit for bit."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{directory}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(30)


def examine(case: Case, ratio: float, directory: Path, reader: Reader | None) -> Finding:
    """Raises AssertionError where a pruned model is broken, NiwakiError where pruning is refused."""
    model = case.model()
    found = Finding(case.name, case.family, ratio, before=_parameters(model))
    done = pruned(model, PruneConfig(ratio=ratio, round_to=1, min_width=2))
    small = done.model.eval()
    found.after = _parameters(small)
    found.cut = sum(after < before for before, after in done.widths.values())
    found.couplings = len(done.widths) + len(done.skipped)
    assert found.after < found.before
    _backwards(small)
    whole, made = outputs(model.eval()), outputs(small)
    assert [o.shape for o in made] == [o.shape for o in whole]
    assert all(torch.isfinite(o).all() for o in made)
    save_model(small, directory)
    np.savez(directory / "outputs.npz", *(o.numpy() for o in made))
    if reader:
        assert not (different := reader.same(directory)), different
    if not case.unexportable:
        found.errors = parity(small, directory / "graphs")
        assert max(found.errors.values()) <= TOLERANCE, found.errors
    return found


def _parameters(model: GenerativeModel) -> int:
    """Of the whole model: what only training uses is not cut, and counts the same before and after."""
    return sum(p.numel() for p in model.parameters())


def _backwards(model: GenerativeModel) -> None:
    for graph in model.graphs().values():
        out = graph(*graph.example(3))
        for part in out if isinstance(out, tuple | list) else (out,):
            if part.requires_grad:
                part.float().square().mean().backward(retain_graph=True)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


def parity(model: GenerativeModel, directory: Path) -> dict[str, float]:
    """The worst error of each engine over all graphs, relative to the largest output."""
    worst: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            paths = export_graphs(model, directory, names=list(model.graphs()), check=False)
        except NiwakiError as error:  # that would be no refusal to prune
            raise AssertionError(f"the pruned model is not exported: {error}") from error
    for name, path in paths.items():
        graph = model.graphs()[name]
        for engine in available():
            errors = graph_errors(graph, bake(graph.module), open_runner(engine, graph, path))
            worst[engine] = max(worst.get(engine, 0.0), *errors.values())
    return worst


def verdict(case: Case, ratio: float, directory: Path, reader: Reader | None) -> Finding:
    """As `examine`, with a refusal as a finding."""
    try:
        return examine(case, ratio, directory, reader)
    except NiwakiError as error:
        return Finding(case.name, case.family, ratio, refused=str(error))


def record(found: Finding) -> str:
    return json.dumps(asdict(found))
