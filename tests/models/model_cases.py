"""Small instances of every registered model, and a plain training loop to put them through their phases."""

from __future__ import annotations

from typing import Any

import torch

from niwaki import models
from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel

SMALL: dict[str, dict[str, Any]] = {
    "dcgan": {"latent": 12, "embedding": 6, "width": 8, "max_width": 16, "features": 16},
    "vae": {"latent": 6, "width": 8, "hidden": 24, "embedding": 4},
    "ddpm": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "train_steps": 50, "steps": 4},
    "edm": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "steps": 3},
    "flow-matching": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "steps": 3},
    "realnvp": {"layers": 4, "width": 32},
}
"""A model that is not named here is tested as its default config makes it."""

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
PATCHES = DataSpec.of("image", (3, 32, 32))
TALL = DataSpec.of("image", (2, 16, 8), classes=3)

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {"upsampling": "transposed"}),
    ("dcgan", {"norm": "none", "deviation": 0}),
    ("dcgan", {"conditional": False, "refine": 1}),
    ("vae", {"likelihood": "bernoulli"}),
    ("vae", {"conditional": False, "upsampling": "transposed"}),
    ("ddpm", {"prediction": "epsilon", "schedule": "linear"}),
    ("ddpm", {"label_drop": 0.0, "solver": "dpmpp_2m"}),
    ("ddpm", {"conditional": False, "solver": "ddpm"}),
    ("edm", {"prediction": "x0", "spacing": "trailing", "solver": "dpmpp_2m"}),
    ("realnvp", {"coupling": "additive", "actnorm": False}),
    ("realnvp", {"conditional": False, "depth": 1, "marginals": False}),
    ("flow-matching", {"prediction": "x0", "shift": 3.0, "density": "uniform"}),
]


def make(name: str, spec: DataSpec = DIGITS, **changes: Any) -> GenerativeModel:
    """A small model of that name, with the same weights every time."""
    torch.manual_seed(0)
    return models.build(name, {**SMALL.get(name, {}), **changes}, spec)


def batch(spec: DataSpec, n: int = 8, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    x = spec.low + (spec.high - spec.low) * torch.rand((n, *spec.shape), generator=rng)
    y = torch.randint(0, spec.classes, (n,), generator=rng) if spec.classes else None
    return Batch({"x": x, "class": y})


def context(step: int = 0, progress: float = 0.0) -> Context:
    return Context(step, progress, "main", {}, torch.Generator().manual_seed(step))


def step(model: GenerativeModel, data: Batch, at: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients of one training step, by phase and parameter; weights stay as they are."""
    model.train()
    gradients = {}
    for phase in model.phases():
        for name, p in model.named_parameters():
            p.requires_grad_(any(name == q or name.startswith(q + ".") for q in phase.parameters))
            p.grad = None
        sum(model.loss(phase.name, data, context(at)).values()).backward()  # type: ignore[union-attr]
        gradients[phase.name] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for p in model.parameters():
        p.requires_grad_(True)
        p.grad = None
    return gradients
