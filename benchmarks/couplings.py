"""Couplings of flow matching on eight Gaussians → two moons, beside the published table (Cheng & Schwing
2025, arXiv:2503.10636), in about four CPU minutes.

    python benchmarks/couplings.py
    python benchmarks/couplings.py --steps 20000 --plans 5000 --width 128 --rate 3e-4 --points 10000

The second line is the published protocol with one seed instead of ten, and takes hours. Rows are kept in a
JSON file as they are measured: an interrupted run goes on with the next, if its settings are the same.

Flow matching without a coupling, with minibatch optimal transport, and with C²OT, without a condition and
with the first coordinate of the sample as one. What is theirs: the distributions (moons: noise along the
diagonal, as torchdyn makes them), the network (x, t and the condition summed, residual blocks), plans of 1024
pairs, batches of 256, Adam, the share of candidates 0.05. What is ours: `coupled`, the path and its target.
Unless told otherwise the network is smaller, its training shorter at a higher rate, and batches are drawn
from the pairs of `--plans` plans instead of ever new ones: a plan takes as long as a hundred steps.

A figure is the squared 2-Wasserstein distance of `--points` samples to as many real ones, exact, beside that
of two sets of real ones. Two ways of following the flow: one step of Euler, and Dormand & Prince's pair at
tolerance 1e-4 ("adaptive").
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from niwaki.core.store import write_json
from niwaki.nn.couplings import coupled
from niwaki.nn.diffusion import TensorProcess, noised
from niwaki_runtime.process import LinearPath

PUBLISHED = {
    ("none", False): (6.232, 0.120), ("ot", False): (0.072, 0.050),
    ("none", True): (0.732, 0.028), ("ot", True): (8.276, 2.143), ("c2ot", True): (0.077, 0.013),
}  # fmt: skip
"""(coupling, whether conditional) → (Euler-1, adaptive)."""
NAMES = {"none": "none", "ot": "optimal transport", "c2ot": "C²OT"}
PLAN, BATCH = 1024, 256


def eight_gaussians(n: int, rng: torch.Generator) -> Tensor:
    """`(n, 2)`: means on a circle of radius 5, variance √0.1 in each direction."""
    angles = torch.randint(0, 8, (n,), generator=rng) * (math.pi / 4)
    means = 5.0 * torch.stack([angles.cos(), angles.sin()], 1)
    return means + 0.1**0.25 * torch.randn((n, 2), generator=rng)


def moons(n: int, rng: torch.Generator) -> Tensor:
    """`(n, 2)`: two half circles, moved along the diagonal by up to 0.2, three times as large."""
    angle = torch.linspace(0.0, math.pi, n // 2)
    outer = torch.stack([angle.cos(), angle.sin()], 1)
    inner = torch.stack([1.0 - angle.cos(), 0.5 - angle.sin()], 1)
    x = torch.cat([outer, inner]) + 0.2 * torch.rand((2 * (n // 2), 1), generator=rng)
    return 3.0 * x - 1.0


class Field(nn.Module):
    """x `(n, 2)`, t `(n,)`, condition `(n, 1)` or None → velocity `(n, 2)`."""

    def __init__(self, width: int, conditional: bool, depth: int = 3) -> None:
        super().__init__()
        self.enter, self.time = nn.Linear(2, width), nn.Linear(1, width)
        self.condition = nn.Linear(1, width) if conditional else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(depth)
        )
        self.leave = nn.Linear(width, 2)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        h = self.enter(x) + self.time(t[:, None])
        if self.condition is not None:
            h = h + self.condition(condition)
        for block in self.blocks:
            h = h + block(h)
        return self.leave(h)


@lru_cache(maxsize=2)  # what has a condition and what has none learn from the same plans
def pairs(coupling: str, plans: int, seed: int) -> tuple[Tensor, Tensor]:
    """(noise, samples) of so many plans, `(plans · PLAN, 2)` each."""
    rng, found = torch.Generator().manual_seed(seed), []
    for _ in range(plans):
        noise, x = eight_gaussians(PLAN, rng), moons(PLAN, rng)
        x = x[torch.randperm(PLAN, generator=rng)]
        if coupling != "none":
            noise = coupled(noise, x, [x[:, :1]] if coupling == "c2ot" else [])
        found.append((noise, x))
    noises, samples = zip(*found, strict=True)
    return torch.cat(noises), torch.cat(samples)


def train(coupling: str, conditional: bool, args: argparse.Namespace, seed: int) -> Field:
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    field, path = Field(args.width, conditional), TensorProcess(LinearPath())
    target = path.process.conversion("velocity").target
    optimizer = torch.optim.Adam(field.parameters(), lr=args.rate, fused=True)
    noise, x = pairs(coupling, args.plans, seed)
    for _ in range(args.steps):
        rows = torch.randint(len(x), (BATCH,), generator=rng)
        x0, eps, t = x[rows], noise[rows], path.draw(BATCH, rng)
        a, s = path.levels(t)
        said = field(noised(x0, eps, a, s), t, x0[:, :1])
        loss = (said - target(x0, eps, a, s)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return field.eval()


@torch.no_grad()
def followed(field: Field, noise: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Samples by one step of Euler, and by an adaptive solver: t from 1 to 0."""
    once = noise - field(noise, torch.ones(len(noise)), condition)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(x).float().reshape(-1, 2)
        return field(rows, torch.full((len(rows),), t), condition).double().numpy().ravel()

    far = solve_ivp(slope, (1.0, 0.0), noise.double().numpy().ravel(), rtol=1e-4, atol=1e-4)
    return once, torch.from_numpy(far.y[:, -1]).float().reshape(-1, 2)


def distance(x: Tensor, y: Tensor) -> float:
    """W₂² of two sets of as many points, by the best assignment."""
    cost = torch.cdist(x.double(), y.double()).square().numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def measured(coupling: str, conditional: bool, args: argparse.Namespace) -> dict[str, Any]:
    begun, found = time.process_time(), []
    for seed in range(args.seeds):
        field = train(coupling, conditional, args, seed)
        rng = torch.Generator().manual_seed(1000 + seed)
        noise, x = eight_gaussians(args.points, rng), moons(args.points, rng)
        found.append([distance(made, x) for made in followed(field, noise, x[:, :1])])
    mean, spread = np.mean(found, 0), np.std(found, 0)
    return {
        "coupling": coupling,
        "conditional": conditional,
        "euler": (float(mean[0]), float(spread[0])),
        "adaptive": (float(mean[1]), float(spread[1])),
        "seconds": time.process_time() - begun,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6000, help="of training")
    parser.add_argument("--plans", type=int, default=128, help="of 1024 pairs each, that training draws from")
    parser.add_argument("--width", type=int, default=64, help="of the network")
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--points", type=int, default=2000, help="that are compared")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/couplings.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    known = json.loads(args.json.read_text()) if args.json.exists() else {}
    if known.get("settings") != settings:
        rng = torch.Generator().manual_seed(1)
        real = distance(moons(args.points, rng), moons(args.points, rng))
        known = {"settings": settings, "real": real, "rows": []}
    for coupling, conditional in PUBLISHED:
        if any((r["coupling"], r["conditional"]) == (coupling, conditional) for r in known["rows"]):
            continue
        known["rows"].append(measured(coupling, conditional, args))
        print(known["rows"][-1], file=sys.stderr, flush=True)  # a row takes a minute
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, known)
    show(known)


def show(known: dict[str, Any]) -> None:
    seeds, points = known["settings"]["seeds"], known["settings"]["points"]
    title = f"8 gaussians → moons, {points} points, {seeds} seed(s); real against real: {known['real']:.4f}"
    table = Table(title=title)
    for head in ("coupling", "condition", "Euler-1", "adaptive", "published", "CPU seconds"):
        table.add_column(head)
    for row in known["rows"]:
        told = [
            f"{mean:.3f}" + (f" ± {sd:.3f}" if seeds > 1 else "")
            for mean, sd in (row["euler"], row["adaptive"])
        ]
        published = PUBLISHED[row["coupling"], row["conditional"]]
        where = "first coordinate" if row["conditional"] else "–"
        beside = f"{published[0]:.3f} / {published[1]:.3f}"
        table.add_row(NAMES[row["coupling"]], where, *told, beside, f"{row['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
