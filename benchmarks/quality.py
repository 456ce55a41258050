"""How good the trained models are: recognised classes, Fréchet distance and coverage beside train-vs-test.

    python benchmarks/quality.py                          # digits recipes, glyphs GAN; trained if need be
    python benchmarks/quality.py digits-gan --seeds 10    # finished runs, or recipes, by name or path
    python benchmarks/quality.py digits-gan --retrain 3   # the spread over trainings, not only over samples

Spread is the standard deviation over sampling seeds (or over trainings and seeds). n is the size of the test
split; the reference distance is that of as many training samples, drawn anew for every seed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from niwaki.api.run import run
from niwaki.core.contract import NiwakiError
from niwaki.core.store import write_json
from niwaki.deployment import machine
from niwaki.evaluation import frechet_distance, manifold
from niwaki.evaluation.statistics.samples import drawn_alike
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory, is_run

RECIPES = ("digits-gan", "digits-ddpm", "digits-vae", "glyphs-gan")


def runs(what: str, retrain: int) -> list[RunDirectory]:
    """One run, or one for each training seed."""
    if is_run(what):
        return [RunDirectory.open(what)]
    if retrain <= 1:
        return [run(what)]
    name = Path(what).stem
    return [run(what, (f"seed={s}",), out=f"runs/{name}-seed{s}") for s in range(retrain)]


def measure(context: RunContext, seed: int, n: int) -> dict[str, float]:
    """One sampling seed: everything against the same n test samples."""
    dataset, test = context.dataset, torch.arange(n)
    evidence = context.judge("samples").evidence(context.model, dataset, "test", n, seed)
    x, y = evidence.arrays["samples"], evidence.arrays.get("labels")
    other = torch.from_numpy(drawn_alike(dataset, y, n, seed))  # the same classes as the samples
    found: dict[str, float] = {}
    for extractor in context.extractors:
        real, made = extractor(dataset.test.values(test)), extractor(x)
        train = extractor(dataset.train.values(other))
        reach, reference = manifold(real, made), manifold(real, train)
        distance, floor = frechet_distance(real, made).value, frechet_distance(real, train).value
        found |= {
            f"{extractor.name}/frechet": distance,
            f"{extractor.name}/frechet_of_train": floor,
            f"{extractor.name}/frechet_ratio": distance / floor,
            f"{extractor.name}/coverage": float(reach.coverage),
            f"{extractor.name}/coverage_ratio": float(reach.coverage) / float(reference.coverage),
        }
        if hasattr(extractor, "probabilities") and y is not None:
            found["recognised"] = float((extractor.probabilities(x).argmax(1) == y).mean())
    return found


def likelihood(context: RunContext) -> dict[str, float]:
    """Bits per dimension (or their bound) of the whole test split; {} where the model knows no likelihood."""
    judge = next((j for j in context.judges(context.model) if j.name == "likelihood"), None)
    if judge is None:
        return {}
    dataset = context.dataset
    evidence = judge.evidence(context.model, dataset, "test", len(dataset.test), 0)
    return {"bits_per_dim": judge.evaluate(evidence, dataset).figures[0].value}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=list(RECIPES), help="run directories or recipes")
    parser.add_argument("--seeds", type=int, default=5, help="sampling seeds for each training")
    parser.add_argument("--retrain", type=int, default=1, help="trainings, each with a seed of its own")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/quality.json"))
    options = parser.parse_args()
    say = Console(stderr=True)
    records = []
    shown = Table(
        "",
        "n",
        "recognised",
        "Fréchet ÷ train's",
        "coverage ÷ train's",
        "bits per dimension",
        title="mean ± sd over seeds",
    )
    try:
        for what in options.what:
            say.print(f"{what}: run", highlight=False)
            rows: list[dict[str, float]] = []
            for directory in runs(what, options.retrain):
                context = RunContext(directory, Quiet())
                n = min(len(context.dataset.test), context.n)
                extra = likelihood(context)
                for seed in range(options.seeds):
                    say.print(f"  seed {seed}", highlight=False)
                    rows.append(measure(context, seed, n) | extra)
            figures = {key: [row[key] for row in rows] for key in rows[0]}
            first = context.extractors[0].name
            records.append(
                {"run": what, "n": n, "seeds": options.seeds, "retrain": options.retrain, "figures": figures}
            )
            shown.add_row(
                Path(what).name,
                str(n),
                *(
                    text(figures.get(k))
                    for k in ("recognised", f"{first}/frechet_ratio", f"{first}/coverage_ratio")
                ),
                text(figures.get("bits_per_dim")),
            )
    except NiwakiError as error:
        say.print(str(error), style="red", highlight=False)
        return 1
    Console().print(shown)
    write_json(options.json, {"machine": machine(), "runs": records})
    return 0


def text(values: list[float] | None) -> str:
    if not values:
        return ""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f}"


if __name__ == "__main__":
    sys.exit(main())
