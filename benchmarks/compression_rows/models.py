"""The models, trained once and kept in `runs/`; in a try-out with a few steps under `runs/quick/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compression_rows import outside
from compression_rows.subject import Say, Subject
from niwaki.api.train import train
from niwaki.data import DataConfig, load
from niwaki.models.io import load_model

__all__ = ["MODELS", "subject"]

RUNS = Path("runs")


def _recipe(recipe: str, n: int, steps: int, batch: int) -> Callable[[bool, Say], Subject]:
    def make(quick: bool, say: Say) -> Subject:
        at = RUNS / "quick" / recipe if quick else RUNS / recipe
        overrides: tuple[str, ...] = ("train.steps=30", "train.checkpoint_every=0") if quick else ()
        if quick and recipe.endswith("ddpm"):
            overrides = (*overrides, "model.steps=8")
        say(f"{recipe}: trained in {at}")
        done = train(recipe, overrides, out=at, resume=_stopped(at))
        model, dataset = load_model(done.model), load(done.recipe.data)
        place = RUNS / "bench-compression" / (f"quick-{recipe}" if quick else recipe)
        few = (64, 8) if quick else (n, steps)
        return Subject(recipe, model, dataset, place, done.cache, few[0], few[1], batch, quick=quick)

    return make


def _stopped(at: Path) -> bool:
    """Whether a training there was interrupted, and can go on."""
    return (at / "checkpoints").is_dir() and not (at / "model" / "model.json").exists()


def _language(quick: bool, say: Say) -> Subject:
    from language import STEPS, language_model  # this folder's benchmark of it

    say("language: trained in runs/")
    runs = RUNS / "quick" if quick else RUNS
    model, dataset = language_model(10 if quick else STEPS, 0, runs=runs)
    place = RUNS / "bench-compression" / ("quick-language" if quick else "language")
    few = (50, 4) if quick else (256, 600)
    return Subject("language", model, dataset, place, place / "cache", few[0], few[1], 24, quick=quick)


def _outside(quick: bool, say: Say) -> Subject:
    dataset = load(DataConfig(source="glyphs", labels=False))
    at = RUNS / "quick" / "outside-dcgan" if quick else RUNS / "outside-dcgan"
    model = outside.adapted(dataset, at, steps=5 if quick else outside.STEPS, say=say)
    place = RUNS / "bench-compression" / ("quick-outside-dcgan" if quick else "outside-dcgan")
    few = (64, 8) if quick else (2000, 1500)
    return Subject("outside-dcgan", model, dataset, place, at / "cache", few[0], few[1], 64, quick=quick)


MODELS: dict[str, Callable[[bool, Say], Subject]] = {
    "digits-gan": _recipe("digits-gan", 4000, 4000, 128),
    "glyphs-gan": _recipe("glyphs-gan", 3000, 10000, 64),
    "digits-ddpm": _recipe("digits-ddpm", 3000, 900, 64),
    "glyphs-ddpm": _recipe("glyphs-ddpm", 800, 800, 32),
    "language": _language,
    "outside-dcgan": _outside,
}
"""By name: (quick, say) → the model with its data."""


def subject(name: str, quick: bool, say: Say) -> Subject:
    return MODELS[name](quick, say)
