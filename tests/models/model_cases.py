"""Small instances of every registered model, and a plain training loop to put them through their phases."""

from __future__ import annotations

from typing import Any

import torch

from niwaki import models
from niwaki.core.contract import Batch, Context, DataSpec, GenerativeModel, Real, Tokens, ValueSpec

SMALL: dict[str, dict[str, Any]] = {
    "dcgan": {"latent": 12, "embedding": 6, "width": 8, "max_width": 16, "features": 16},
    "vae": {"latent": 6, "width": 8, "hidden": 24, "embedding": 4},
    "ddpm": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "train_steps": 50, "steps": 4},
    "edm": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "steps": 3},
    "flow-matching": {"widths": (16, 32), "blocks": 1, "attention": (4,), "heads": 2, "steps": 3},
    "transformer": {"width": 16, "depth": 2, "heads": 2, "stride": 5},
    "forecaster": {"width": 8, "hidden": 16},
}
"""A model that is not named here is tested as its default config makes it."""



def _amounts(channels: int, steps: int) -> ValueSpec:
    return ValueSpec("series", (channels, steps), "CT", Real(-100.0, 100.0))


DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
PATCHES = DataSpec.of("image", (3, 32, 32))
TALL = DataSpec.of("image", (2, 16, 8), classes=3)
WORDS = DataSpec({"x": ValueSpec("text", (24,), "T", Tokens(7)), "class": ValueSpec.label(3)})
CODES = DataSpec({"x": ValueSpec("series", (9,), "T", Tokens(5))})
WAVES = DataSpec({"x": _amounts(2, 6), "past": _amounts(2, 12)})
PRICES = DataSpec({"x": _amounts(1, 5), "past": _amounts(1, 9), "covariates": _amounts(3, 14)})

SPECS: dict[str, tuple[DataSpec, ...]] = {
    "transformer": (WORDS, CODES),
    "forecaster": (WAVES, PRICES),
}
"""What models are tested on that do not make images; the first one is what variants get, too."""

REFUSED: dict[str, tuple[DataSpec, str]] = {
    "transformer": (DIGITS, r"sequences of tokens \(T\)"),
    "forecaster": (DIGITS, r"amounts over time \(C, T\) from a column 'past'"),
}
"""Data that a model cannot be made for, and what it says of them."""

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
    ("flow-matching", {"prediction": "x0", "shift": 3.0, "density": "uniform"}),
    ("transformer", {"tied": False, "conditioning": {"columns": ()}}),
    ("transformer", {"conditioning": {"drop": 0.5}, "sampling": {"top_k": 5}}),
    ("forecaster", {"head": "mixture", "depth": 2}),
]


def specs_of(name: str) -> tuple[DataSpec, ...]:
    """What a model is tested on, the usual data first."""
    return SPECS.get(name, (DIGITS, PATCHES, TALL))


def make(name: str, spec: DataSpec | None = None, **changes: Any) -> GenerativeModel:
    """A small model of that name, with the same weights every time."""
    torch.manual_seed(0)
    return models.build(name, {**SMALL.get(name, {}), **changes}, spec or specs_of(name)[0])


def batch(spec: DataSpec, n: int = 8, seed: int = 0) -> Batch:
    """Values of every column, evenly from all that there are."""
    rng = torch.Generator().manual_seed(seed)
    return Batch({name: _values(value, n, rng) for name, value in spec.columns.items()})


def _values(spec: ValueSpec, n: int, rng: torch.Generator) -> torch.Tensor:
    if spec.is_tokens:
        return torch.randint(0, spec.levels, (n, *spec.shape), generator=rng)
    low, high = max(spec.low, -2.0), min(spec.high, 2.0)  # amounts may be without bounds
    return low + (high - low) * torch.rand((n, *spec.shape), generator=rng)


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
