"""A DCGAN that niwaki did not write or train: Radford, Metz & Chintala 2016, 32×32, in plain torch.

Transposed convolutions throughout; trained by a plain float32 loop on the glyphs without their classes.
`niwaki.adapt` turns it into a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.adapters import adapt
from niwaki.adapters.module import Adapted
from niwaki.core.store import read_tensors, write_tensors
from niwaki.data import Dataset

__all__ = ["STEPS", "adapted", "generator"]

STEPS, BATCH, SEED = 3000, 64, 0


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


def train(x: Tensor, steps: int, batch: int, seed: int, say: Callable[[str], None]) -> nn.Module:
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
            say(f"outside training: {step}/{steps}, {time.perf_counter() - began:.0f} s")
    return g.eval()


def adapted(dataset: Dataset, directory: Path, *, steps: int, say: Callable[[str], None]) -> Adapted:
    """The trained generator in niwaki's clothes; training is done once and kept in `directory`."""
    weights = directory / f"outside-{steps}-{BATCH}-{SEED}.safetensors"
    if weights.exists():
        outside = generator()
        outside.load_state_dict(read_tensors(weights))
    else:
        outside = train(dataset.train.values(), steps, BATCH, SEED, say)
        write_tensors(weights, outside.state_dict())
    factory = "compression_rows.outside:generator"
    return adapt(outside.eval(), latent=(100, 1, 1), spec=dataset.spec, factory=factory)
