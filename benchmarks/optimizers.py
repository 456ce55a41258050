"""Which optimizer: steps and processor seconds to a target on the validation split, on five recipes.

    python benchmarks/optimizers.py                      # what is missing, and the table
    python benchmarks/optimizers.py digits-vae --ways adam muon --seeds 3
    python benchmarks/optimizers.py --quick              # a tenth of the steps: whether all of it works
    python benchmarks/optimizers.py --no-train           # the table of what is there

Every way trains the recipe's model, data and batch with a constant rate after the recipe's warm-up and the
average of its weights, so that a training of half the length is the first half of one. The rate is the best
of three, `rates` times the recipe's, on the validation split with seed 0; the other seeds train at that rate.
The target is what `adam` reaches in the mean of its seeds. What is measured, twenty times a training, by
the averaged weights: the held-out loss; for a GAN, whose loss measures nothing, the Fréchet distance of 512
samples to the validation split in the features of a classifier. Seconds are the processor time of the
thread that trains, without validations.

Rows are kept in benchmarks/results as they are measured, and made anew where their settings changed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from niwaki.core.store import hash_json, read_json, write_json, write_text
from niwaki.data import load
from niwaki.deployment import machine
from niwaki.evaluation import frechet_distance
from niwaki.features import build as build_extractors
from niwaki.models.registry import build
from niwaki.recipe import load_recipe
from niwaki.training import TrainConfig, fit
from niwaki.training.nonfinite import NotFinite

RECIPES: dict[str, tuple[int, tuple[str, ...]]] = {
    "digits-vae": (600, ()),
    "digits-realnvp": (600, ()),
    "digits-mlp-gan": (1200, ()),
    "digits-ddpm": (400, ("model.widths=[16,32]",)),
    "docs-transformer": (160, ("model.width=128", "model.depth=3", "data.length=128")),
}
"""Recipe → steps, and what makes it small enough for two cores."""

WAYS: dict[str, tuple[tuple[float, ...], dict[str, Any]]] = {
    "adam": ((0.5, 1.0, 2.0), {}),
    "adamw": ((0.5, 1.0, 2.0), {"weight_decay": 0.01}),
    "radam": ((1.0, 2.0, 4.0), {}),
    "lion": ((0.05, 0.1, 0.2), {"weight_decay": 0.1}),
    "muon": ((1.0, 2.0, 4.0), {"weight_decay": 0.01}),
    "soap": ((0.5, 1.0, 2.0), {"weight_decay": 0.01}),
    "lookahead": ((0.5, 1.0, 2.0), {"inner": "adamw"}),
}
"""Optimizer → rates in those of the recipe, and settings."""

ADAM_RATE = {"docs-transformer": 1.0e-3}
"""What stands for the recipe's rate where that is not one of Adam."""

MEASURES = 20
SAMPLES = 512
HEAD = (
    "recipe",
    "optimizer",
    "rate",
    "after all steps",
    "steps to target",
    "seconds to target",
    "s/step ÷ adam's",
)


class Subject:
    """One recipe's model, data and measure."""

    def __init__(self, name: str, *, quick: bool) -> None:
        steps, overrides = RECIPES[name]
        self.name, self.steps = name, steps // 10 if quick else steps
        self.recipe = load_recipe(Path(__file__).parents[1] / "recipes" / f"{name}.yaml", overrides)
        self.data = load(self.recipe.data)
        rate = self.recipe.train.lr
        self.rate = ADAM_RATE.get(name, rate if isinstance(rate, float) else 0.0)
        self.eye: Any = None

    def model(self, seed: int) -> Any:
        torch.manual_seed(seed)
        settings = {k: v for k, v in self.recipe.model.items() if k != "name"}
        return build(self.recipe.model["name"], settings, self.data.spec)

    def config(self, way: str, rate: float) -> TrainConfig:
        settings = {"name": way, "lr": rate, **WAYS[way][1]}
        return TrainConfig.model_validate(
            {
                "steps": self.steps,
                "batch": self.recipe.train.batch,
                "warmup": self.recipe.train.warmup or self.steps // 20,
                "clip": self.recipe.train.clip,
                "ema": min(self.recipe.train.ema or 0.98, 1 - 10 / self.steps),
                "schedule": "constant",
                "optimizers": {"default": settings},
                "validate_every": max(1, self.steps // MEASURES),
                "checkpoint_every": 0,
                "precision": "fp32",
                "watch": None,
            }
        )

    def score(self, model: Any, step: int) -> dict[str, float]:
        """Fréchet distance to the validation split, where no loss measures the model."""
        if any(phase.validate for phase in model.phases()):
            return {}
        if self.eye is None:
            self.eye = build_extractors(["classifier"], self.data)[0]
            self.real = self.eye(self.data.validation.values())
        x = torch.as_tensor(model.sample(SAMPLES, seed=0))
        return {"loss": frechet_distance(self.real, self.eye(x)).value}


def train(subject: Subject, way: str, factor: float, seed: int) -> list[tuple[int, float]]:
    """One training: (step, what was measured) of every measurement."""
    model = subject.model(seed)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model,
            subject.data.train,
            subject.config(way, factor * subject.rate),
            seed=seed,
            directory=Path(folder),
            validation=subject.data.validation,
            validate=subject.score,
        )
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["validation/loss"]) for line in lines if "validation/loss" in line]


def seconds_per_step(subject: Subject, way: str) -> float:
    """Processor seconds of the thread that trains: those of 24 steps beyond the first eight."""
    found = []
    for steps in (8, 32):
        config = subject.config(way, subject.rate)
        config = config.model_copy(update={"steps": steps, "validate_every": 0})
        began = time.thread_time()
        fit(subject.model(0), subject.data.train, config, seed=0)
        found.append(time.thread_time() - began)
    return (found[1] - found[0]) / 24


class Rows:
    """Trainings that were done, kept by what they followed from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = read_json(path) if path.exists() else {}

    def get(self, key: list[Any], make: Callable[[], Any]) -> Any:
        name = hash_json(key)
        if name not in self.rows:
            self.rows[name] = {"of": key, "value": make()}
            write_json(self.path, self.rows)
        return self.rows[name]["value"]


def end(curve: list[Any]) -> float:
    """The last measurement; infinite where it is no number."""
    value = float(curve[-1][1]) if curve else math.inf
    return value if math.isfinite(value) else math.inf


def reached(curve: list[Any], target: float) -> float:
    """The first step at which the target was reached, infinite where it was not."""
    return next((float(step) for step, value in curve if value <= target), math.inf)


def measure(subject: Subject, way: str, seeds: int, rows: Rows, train_more: bool) -> dict[str, Any] | None:
    """The best rate of a way by seed 0, and its curves with every seed. None where a training is missing."""

    def curve(factor: float, seed: int) -> Any:
        config = subject.config(way, factor * subject.rate).model_dump(mode="json")
        key = [subject.name, subject.recipe.model, subject.recipe.data.model_dump(mode="json"), config, seed]
        if not train_more and hash_json(key) not in rows.rows:
            raise LookupError
        return rows.get(key, lambda: _tried(subject, way, factor, seed))

    try:
        best = min(WAYS[way][0], key=lambda factor: end(curve(factor, 0)))
        curves = [curve(best, seed) for seed in range(seeds)]
        cost = rows.get(
            [subject.name, way, subject.steps, machine()["cpu"]], lambda: seconds_per_step(subject, way)
        )
    except LookupError:
        return None
    return {"rate": best * subject.rate, "curves": curves, "seconds": cost}


def _tried(subject: Subject, way: str, factor: float, seed: int) -> list[tuple[int, float]]:
    console.print(f"{subject.name}: {way} at {factor * subject.rate:.2g}, seed {seed}", highlight=False)
    try:
        return train(subject, way, factor, seed)
    except NotFinite:
        return []  # this rate is too high


console = Console(stderr=True)


def cells(found: dict[str, dict[str, Any]], recipe: str) -> list[list[str]]:
    """The rows of one recipe: what each way reached, and when it was where `adam` ended."""
    target = statistics.mean(end(c) for c in found["adam"]["curves"])
    lines = []
    for way, of in found.items():
        ends = [end(c) for c in of["curves"]]
        steps = [reached(c, target) for c in of["curves"]]
        middle = statistics.median(steps)
        lines.append(
            [
                recipe,
                way,
                f"{of['rate']:.2g}",
                f"{statistics.mean(ends):.4g} ({min(ends):.4g} … {max(ends):.4g})",
                "not reached" if math.isinf(middle) else f"{middle:.0f}",
                "–" if math.isinf(middle) else f"{middle * of['seconds']:.0f}",
                f"{of['seconds'] / found['adam']['seconds']:.2f}",
            ]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, into a file of its own")
    parser.add_argument("--no-train", action="store_true", help="only what was trained already")
    args = parser.parse_args()
    for name in args.recipes:
        if name not in RECIPES:
            parser.error(f"{name} is none of {', '.join(RECIPES)}")
    place = Path(__file__).parent / "results" / ("optimizers-quick.json" if args.quick else "optimizers.json")
    rows, lines = Rows(place), list[list[str]]()
    for name in args.recipes:
        subject, found = Subject(name, quick=args.quick), dict[str, dict[str, Any]]()
        for way in dict.fromkeys(["adam", *args.ways]):
            of = measure(subject, way, args.seeds, rows, not args.no_train)
            if of is not None:
                found[way] = of
        if "adam" in found:
            lines += cells(found, f"{name}, {subject.steps} steps")
    table = Table(*HEAD)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    rule = ["---"] * len(HEAD)
    text = "\n".join("| " + " | ".join(line) + " |" for line in [list(HEAD), rule, *lines])
    write_text(place.with_suffix(".md"), text + "\n")


if __name__ == "__main__":
    main()
