"""Every registered model in small, through its recipe where it has one; nothing here names what is new.

A model that is registered is tested: as the first recipe of `recipes/` that trains it on data on board says,
and on every kind of data below that it accepts. It is made small by the names of its settings (`SMALLER`) and
by its sampler's number of steps; where that does not fit a model, `SMALL` says what does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from niwaki import data, models
from niwaki.compression.forward import example_batch
from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    GenerativeModel,
    Levels,
    Real,
    Tokens,
    ValueSpec,
)
from niwaki.data import Split
from niwaki.data.columns import Column
from niwaki.data.inputs import make_inputs
from niwaki.models.registry import config_of, presets, registered
from niwaki.recipe import load_recipe
from niwaki_runtime.samplers import OneShot

Module = TypeVar("Module", bound=nn.Module)
RECIPES = Path(__file__).parents[2] / "recipes"

SMALLER: dict[str, Any] = {
    "attention": (4,),
    "blocks": 1,
    "embedding": 4,
    "features": 16,
    "heads": 2,
    "hidden": 24,
    "latent": 6,
    "layers": 2,
    "max_width": 16,
    "style": 8,
    "train_steps": 50,
    "width": 8,
    "widths": (16, 32),
}
"""Settings by name, wherever a model has them and takes such a value."""

SMALL_TRANSFORMER: dict[str, Any] = {
    "patch": 2, "width": 16, "depth": 2, "heads": 2, "expansion": 2,
    "text_width": 8, "text_depth": 1, "text_heads": 2,
}  # fmt: skip
"""Of the denoisers that are transformers."""

SMALL: dict[str, dict[str, Any]] = {
    "dcgan": {"latent": 12, "embedding": 6},
    "progressive-gan": {"width": 16, "max_width": 32},  # its norm sees as many values as there are channels
    "realnvp": {"layers": 2, "width": 32},
    "gan-ensemble": {"members": 2, "settings": {"latent": 6, "width": 8, "embedding": 4}},
    "transformer-gan": {"critic_width": 8, "ratio": 1},
    "vqvae": {"prior_width": 16, "prior_heads": 2, "prior_layers": 1},
    "video-gpt": {"prior_width": 16, "prior_heads": 2, "prior_layers": 1, "codes": 16},
    "dalle": {
        "prior_width": 16,
        "prior_heads": 2,
        "prior_layers": 1,
        "text_width": 8,
        "text_heads": 2,
    },
    "muse": {
        "prior_width": 16,
        "prior_heads": 2,
        "prior_layers": 1,
        "text_width": 8,
        "text_heads": 2,
    },
    "text-image": {"prior_width": 16, "prior_heads": 2, "prior_layers": 1},
    "var": {"prior_width": 16, "prior_heads": 2, "prior_layers": 1},
    "audio-codec": {
        "strides": (2, 4),
        "codes": 16,
        "books": 2,
        "prior_width": 16,
        "prior_heads": 2,
        "prior_layers": 1,
    },
    "controlnet": {
        "base": {"name": "ddpm", "train_steps": 50, "widths": [16, 32], "blocks": 1, "attention": [4]},
    },
    "nice": {"layers": 2, "width": 32},
    "kl-autoencoder": {"critic_width": 8, "encoder_width": 16, "encoder_features": 8},
    "vq-autoencoder": {"critic_width": 8, "encoder_width": 16, "encoder_features": 8, "codes": 16},
    "cascaded-diffusion": {
        "base": {
            "name": "ddpm",
            "widths": [8, 16],
            "blocks": 1,
            "attention": [],
            "train_steps": 50,
            "steps": 4,
        }
    },
    "dit": {"network": {"name": "dit", **SMALL_TRANSFORMER}},
    "mmdit": {"network": {"name": "mmdit", **SMALL_TRANSFORMER}},
    "transformer": {"width": 16, "depth": 2, "heads": 2, "stride": 5},
    "memory-transformer": {
        "width": 16,
        "depth": 2,
        "heads": 2,
        "stride": 5,
        "memory": {"orders": (1, 2, 4), "slots": 512, "successors": 2},
        "matches": 3,
    },
    "state-space": {"width": 16, "depth": 2, "heads": 2, "state": 3},
}
"""What a model needs beside or instead of `SMALLER`."""

SHORTER = {"length": 32}
"""Settings of data by name: sequences that are made token by token."""

STEPS = 4
"""Of a sampler that has `steps`."""

MOST = 256
"""Evaluations for one sample: models that make large images pixel by pixel are tried on small ones."""

FROZEN: dict[str, tuple[str, ...]] = {
    "controlnet": ("base",),
    "ddpm": ("features",),
    "latent-diffusion": ("autoencoder",),
    "kl-autoencoder": ("perceptual",),
    "vq-autoencoder": ("perceptual",),
    "progressive-gan": ("generator.earlier", "discriminator.features.earlier"),
}
"""Parts that come from another training or from an earlier stage, and stay as they are."""

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
PATCHES = DataSpec.of("image", (3, 32, 32))
TALL = DataSpec.of("image", (2, 16, 8), classes=3)
CAPTIONED = DataSpec({**DIGITS.without("class").columns, "caption": ValueSpec("text", (5,), "T", Tokens(7))})
VECTORS = DataSpec.of("vector", (4,))
POINTS = DataSpec.of("vector", (3,), low=-math.inf, high=math.inf, classes=2)
TEXT = DataSpec.of("text", (16,), levels=12)
SERIES = DataSpec.of("series", (2, 16))
CHATS = DataSpec(
    {
        "x": ValueSpec("text", (20,), "T", Tokens(9, end=2)),
        "answers": ValueSpec("mask", (20,), "T", Levels(2, 0.0, 1.0)),
        "prompt": ValueSpec("text", (11,), "T", Tokens(9, end=2)),
    }
)
WORDS = DataSpec({"x": ValueSpec("text", (24,), "T", Tokens(7)), "class": ValueSpec.label(3)})
FUTURE, PAST = (ValueSpec("series", (2, steps), "CT", Real(-math.inf, math.inf)) for steps in (6, 13))
COVARIATES = ValueSpec("series", (3, 19), "CT", Real(-1.0, 1.0))
FORECASTS = DataSpec({"x": FUTURE, "past": PAST, "covariates": COVARIATES})
GAPS = DataSpec(
    {
        "x": FUTURE,
        "past": PAST,
        "past_mask": ValueSpec("series", (2, 13), "CT", Real(0.0, 1.0)),
        "x_mask": ValueSpec("series", (2, 6), "CT", Real(0.0, 1.0)),
        "static": ValueSpec("vector", (2,), "C", Real(-1.0, 1.0)),
    }
)
CLIPS = DataSpec.of("video", (3, 1, 8, 8), classes=3)
LATER = DataSpec({"x": ValueSpec("video", (4, 2, 8, 16)), "past": ValueSpec("video", (2, 2, 8, 16))})
SPECS = {
    "patches": PATCHES,
    "tall": TALL,
    "vectors": VECTORS,
    "points": POINTS,
    "text": TEXT,
    "words": WORDS,
    "chats": CHATS,
    "series": SERIES,
    "forecasts": FORECASTS,
    "gaps": GAPS,
    "clips": CLIPS,
    "predictions": LATER,
}

LED = DataSpec({**DIGITS.columns, "edges": ValueSpec("image", (1, 8, 8), "CHW", Levels(2, -1.0, 1.0))})
OWN_SPECS = {"controlnet": ("led", LED)}
"""Data of models that are for no others."""

ALL = {"captioned": CAPTIONED, "digits": DIGITS, **SPECS}
"""What presets and variants are tested on, the first that they accept; and models that accept none of
`SPECS`."""

CAPTION = "caption"
"""The column that the data `captioned` have for those models alone that are asked by it."""

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dcgan", {"upsampling": "transposed"}),
    ("dcgan", {"norm": "none", "deviation": 0}),
    ("dcgan", {"conditional": False, "refine": 1}),
    ("r3gan", {"patch": 2, "conditional": False}),
    ("stylegan2", {"conditional": False, "mixing": 0.0, "path_length": 0.0}),
    ("stylegan2", {"start": "style", "mapping_rate": 1.0}),
    ("progressive-gan", {"conditional": False, "objective": "non_saturating", "gradient_penalty": 0.0}),
    ("vae", {"likelihood": "bernoulli"}),
    ("vae", {"conditional": False, "upsampling": "transposed"}),
    ("transformer-gan", {"patch": 1, "critic": "patch", "conditional": False}),
    ("ddpm", {"prediction": "epsilon", "schedule": "linear"}),
    ("ddpm", {"label_drop": 0.0, "solver": "dpmpp_2m"}),
    ("ddpm", {"conditional": False, "solver": "ddpm"}),
    ("ddpm", {"weighting": "learned", "schedule": "sigmoid", "zero_terminal_snr": True}),
    ("ddpm", {"learned_variance": True, "solver": "ddpm"}),
    ("ddpm", {"self_conditioning": True}),
    ("ddpm", {"likelihood": True}),
    ("edm", {"weak": {"every": 2, "widths": (8, 16)}, "conditional": False}),
    ("ddpm", {"repa": {"hidden": 16, "encoder_width": 16, "encoder_features": 8}}),
    ("edm", {"prediction": "x0", "spacing": "trailing", "solver": "dpmpp_2m"}),
    ("ddpm", {"network": {"name": "dit", **SMALL_TRANSFORMER}, "learned_variance": True, "solver": "ddpm"}),
    ("edm", {"network": {"name": "dit", **SMALL_TRANSFORMER}, "self_conditioning": True}),
    ("latent-diffusion", {"weak": {"every": 1, "blocks": 1}}),
    ("edm", {"network": {"name": "magnitude-preserving"}, "weighting": "learned"}),
    ("latent-diffusion", {"network": {"name": "mmdit", **SMALL_TRANSFORMER}}),
    ("dit", {"conditional": False}),
    ("vqvae", {"codebook": "averaged", "conditional": False}),
    ("vqvae", {"codebook": "levelled", "codes": 64, "dim": 3}),
    ("realnvp", {"coupling": "additive", "actnorm": False}),
    ("realnvp", {"coupling": "spline", "bins": 4}),
    ("realnvp", {"conditional": False, "depth": 1, "marginals": False}),
    ("flow-matching", {"prediction": "x0", "shift": 3.0, "density": "uniform"}),
    ("flow-matching", {"coupling": "c2ot", "weighting": "min_snr"}),
    ("transformer", {"tied": False, "conditioning": {"columns": ()}}),
    ("transformer", {"conditioning": {"drop": 0.5}, "sampling": {"top_k": 5}}),
    ("hierarchical-vae", {"likelihood": "logistic", "conditional": False, "bound": 2}),
    ("vqvae", {"books": 2, "codebook": "learned", "codes": 16}),
    ("vqvae", {"prior": "masked", "prior_steps": 3, "conditional": False}),
    ("vqvae", {"text_width": 8, "text_heads": 2, "text_depth": 0, "books": 2, "codes": 16}),
    ("residual-vq", {"prior": "masked"}),
    ("var", {"codebook": "learned", "scales": (1, 4), "conditional": False}),
    ("audio-codec", {"strides": (4,), "prior": "masked", "prior_steps": 3}),
    ("audio-codec", {"prior_by_book": True, "conditional": False, "codebook": "learned"}),
    ("lstm", {"unroll": 3}),
    ("vae", {"importance": 3, "total_correlation": 2.0}),
    ("forecaster", {"head": "mixture", "depth": 2}),
    ("forecaster", {"head": "gaussian", "season": 4}),
    ("deepar", {"head": "mixture", "cell": "lstm", "depth": 1}),
    ("deepar", {"head": "gaussian", "lags": 3}),
    ("video-diffusion", {"temporal": ("attention",), "conditional": False}),
    ("video-diffusion", {"temporal": ("convolution",), "patch": 2, "prediction": "epsilon"}),
    ("video-diffusion", {"temporal": ("convolution", "joint"), "without_past": 0.5}),
    ("video-diffusion", {"self_conditioning": True, "learned_variance": True, "weighting": "learned"}),
    ("video-gpt", {"codebook": "levelled", "codes": 16, "dim": 2, "conditional": False}),
    ("video-gpt", {"books": 2, "codes": 16}),
    ("kl-autoencoder", {"perceptual": 0.5, "adversarial": 0.5, "starts": 0.0}),
    ("vq-autoencoder", {"perceptual": 0.5, "adversarial": 0.5, "codebook": "learned"}),
    ("cascaded-diffusion", {"conditional": False, "factor": 4, "augmentation": 0.0}),
]
"""Settings that change what a model consists of."""


@dataclass(frozen=True)
class Case:
    """A model to be tested.

    data:    what its data are called, and what they are
    recipe:  settings of its recipe, before it is made small
    changes: settings that stay as they are
    split:   rows of the recipe's data; None without a recipe
    """

    name: str
    data: str
    spec: DataSpec
    recipe: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.data}"

    def model(self, **changes: Any) -> GenerativeModel:
        """With the same weights every time."""
        return make(self.name, self.spec, self.recipe, **{**self.changes, **changes})

    def batch(self, n: int = 8) -> Batch:
        """Rows of the recipe's data, or what such data could be."""
        return example_batch(self.spec, n) if self.split is None else self.split.batch(torch.arange(n))

    @property
    def rows(self) -> Split | None:
        """Rows of the recipe's data; without one, where something must be given, what they could be."""
        if self.split is not None or not {"past", "edges"} & set(self.spec):
            return self.split
        return Split({name: Column(self.spec[name], rows) for name, rows in self.batch().items()})

    def inputs(self, model: GenerativeModel, program: str = "sample", n: int = 4) -> dict[str, Any]:
        """What a program is given: rows of the recipe's data, or of what such data could be."""
        made = {} if self.split else {name: rows.numpy() for name, rows in self.batch(n).items()}
        return make_inputs(model, program, n, self.split, examples=made)


def draws(model: GenerativeModel) -> bool:
    """Whether its samples are made of noise: a translator's are made of what it is given."""
    return not all(isinstance(p, OneShot) and p.latent is None for p in model.sampler().parts())


@cache
def recipes() -> dict[str, str]:
    """The recipe of every model, by the model's name: the first whose data are on board."""
    found: dict[str, str] = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(path)
        alone = recipe.train is None or not recipe.train.init_from
        if recipe.data.path is None and not recipe.encodes and alone:
            found.setdefault(recipe.model["name"], str(path))
    return found


def case_of(name: str) -> Case | None:
    """A model as its recipe says; None where it has none."""
    if name not in recipes():
        return None
    recipe = load_recipe(recipes()[name])
    short = [f"data.{k}={v}" for k, v in SHORTER.items() if getattr(recipe.data, k, 0) > v]
    dataset = data.load(load_recipe(recipes()[name], short).data)
    return Case(name, Path(recipes()[name]).stem, dataset.spec, recipe.model_settings, split=dataset.train)


def cases() -> Iterator[Case]:
    """Every built-in model and preset: through its recipe, and on all kinds of data that it accepts."""
    for name in dict.fromkeys((*models.built_in(), *presets())):
        known = case_of(name)
        if known is not None:
            yield known
        if name in models.built_in():
            kinds = [*SPECS.items(), *([OWN_SPECS[name]] if name in OWN_SPECS else [])]
            found = [c for data_name, spec in kinds if fits(c := Case(name, data_name, spec))]
            yield from found
            if not found and known is None:
                yield first_that_fits(name)
        elif known is None:
            yield first_that_fits(name)
    for name, changes in VARIANTS:
        yield first_that_fits(name, changes)


def first_that_fits(name: str, changes: Mapping[str, Any] | None = None) -> Case:
    """The case of the first kind of data that the model accepts."""
    changes = dict(changes or {})
    kinds = ((f"{data}-{','.join(changes)}" if changes else data, spec) for data, spec in ALL.items())
    return next(case for data, spec in kinds if fits(case := Case(name, data, spec, changes=changes)))


def fits(case: Case) -> bool:
    """Whether the model is for such data: one that is not says so by a CallError when it is built.

    Whatever else it raises is a fault, which the tests of this case are to meet.
    """
    try:
        model = case.model()
        asked = CAPTION not in case.spec or CAPTION in model.conditions
        return asked and model.sampler().evaluations() <= MOST
    except CallError:
        return False
    except Exception:
        return True


@cache
def smaller(name: str) -> dict[str, Any]:
    """Settings that make a model small: those of `SMALLER` that it has and takes, and those of `SMALL`."""
    fields = registered(name).Config.model_fields
    found = {k: v for k, v in SMALLER.items() if k in fields and _taken(name, {k: v})}
    base = presets()[name].base if name in presets() else name
    return {**found, **SMALL.get(name, SMALL.get(base, {}))}


def _taken(name: str, settings: dict[str, Any]) -> bool:
    try:
        config_of(name, settings)
    except CallError:
        return False
    return True


def make(
    name: str, spec: DataSpec = DIGITS, recipe: Mapping[str, Any] | None = None, **changes: Any
) -> GenerativeModel:
    """A small model of that name, with the same weights every time; `changes` are kept as they are."""
    settings = {**(recipe or {}), **smaller(name), **changes}
    torch.manual_seed(0)
    model = models.build(name, settings, spec)
    if getattr(model.sampler(), "steps", 0) > STEPS and "steps" not in changes:
        torch.manual_seed(0)
        model = models.build(name, {**settings, "steps": STEPS}, spec)
    return model


def stirred(model: Module, deviation: float) -> Module:
    """The same module, its weights moved in place by normal noise, the same every time."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=rng), alpha=deviation)
    return model


def batch(spec: DataSpec, n: int = 8, seed: int = 0) -> Batch:
    """Values of every column, evenly from all that there are."""
    return example_batch(spec, n, seed)


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
