"""An outside DCGAN, compressed: bytes, latency and verdict of a generator that niwaki did not write or train.

    python benchmarks/adapted.py                 # about five minutes on two cores
    python benchmarks/adapted.py --steps 3000    # of the outside training

The generator is Radford's DCGAN (transposed convolutions, 32×32) in plain torch, trained by a plain float32
loop on the glyphs without their classes. `niwaki.adapt` turns it into a model; the rest is `niwaki.compress`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import niwaki
from niwaki import data
from niwaki.store import read_tensors, write_json, write_tensors


def up(a: int, b: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]


def down(a: int, b: int) -> list[nn.Module]:
    return [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2, True)]


def generator(w: int = 64) -> nn.Module:
    """z (n, 100, 1, 1) → (n, 1, 32, 32) in −1 … 1."""
    start = [nn.ConvTranspose2d(100, 4 * w, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * w), nn.ReLU(True)]
    return nn.Sequential(
        *start, *up(4 * w, 2 * w), *up(2 * w, w), nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh()
    )


def critic(w: int = 32) -> nn.Module:
    return nn.Sequential(
        *down(1, w), *down(w, 2 * w), *down(2 * w, 4 * w), nn.Flatten(), nn.Linear(64 * w, 1)
    )


def train(x: Tensor, steps: int, batch: int, seed: int, say: Console) -> nn.Module:
    """The plain loop that somebody else would have written; R1 every 16 steps keeps it stable."""
    torch.manual_seed(seed)
    g, d = generator(), critic()
    optimize_g, optimize_d = (torch.optim.Adam(m.parameters(), 2e-4, betas=(0.5, 0.99)) for m in (g, d))
    began = time.perf_counter()
    for step in range(steps):
        real = x[torch.randint(len(x), (batch,))]
        fake = g(torch.randn(batch, 100, 1, 1))
        loss = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
        if step % 16 == 0:
            real.requires_grad_(True)
            (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
            loss = loss + 16 * 0.5 * slope.square().flatten(1).sum(1).mean()
        optimize_d.zero_grad()
        loss.backward()
        optimize_d.step()
        optimize_g.zero_grad()
        F.softplus(-d(fake)).mean().backward()
        optimize_g.step()
        if step % 100 == 0:
            say.print(
                f"outside training: {step}/{steps}, {time.perf_counter() - began:.0f} s", highlight=False
            )
    return g.eval()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/outside-dcgan"))
    options = parser.parse_args()
    say = Console(stderr=True)
    dataset = data.load(data.DataConfig(source="glyphs", labels=False))

    weights = options.out / f"outside-{options.steps}-{options.batch}-{options.seed}.safetensors"
    if weights.exists():
        outside = generator()
        outside.load_state_dict(read_tensors(weights))
    else:
        outside = train(dataset.train.values(), options.steps, options.batch, options.seed, say)
        write_tensors(weights, outside.state_dict())

    model = niwaki.adapt(outside.eval(), latent=(100, 1, 1), spec=dataset.spec)
    plan = [
        {"kind": "prune", "ratio": 0.5, "importance": "activation"},
        {"kind": "finetune", "steps": 1500, "batch": 64},
        {"kind": "quantize"},
    ]
    found = niwaki.compress(
        model,
        data=dataset,
        out=options.out,
        plan=plan,
        n=options.pairs,
        seed=options.seed,
        torch_compile=True,
    )
    measured = found["measured"]
    shown = Table("", "bytes", "sample(1), ms", "sample(16), ms", title="outside DCGAN, 32×32, ConvTranspose")
    for name, way in measured.items():
        times = [
            f"{t['median_ms']:.3f} ({t['low_ms']:.3f}–{t['high_ms']:.3f})" for t in way["latency"].values()
        ]
        shown.add_row(name, f"{way['bytes']:,}" if "bytes" in way else "", *times)
    Console().print(shown)
    for axis, verdict in found["verdict"].items():
        Console().print(f"{axis}: {verdict['text']}", highlight=False)
    write_json("benchmarks/results/adapted.json", {k: v for k, v in found.items() if k != "comparison"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
