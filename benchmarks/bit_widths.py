"""Which of the two goes first as bits shrink: fidelity or diversity, of models quantized after training.

    python benchmarks/bit_widths.py                                   # all three models, n = 1000
    python benchmarks/bit_widths.py --only runs/digits-gan --n 2000   # a run's directory, or a recipe's name
    python benchmarks/bit_widths.py --draw                            # the picture from the kept figures

Weights and activations have the same bits (8 … 3), ranges come from real sampling, nothing is trained. The
samples of every width are paired with the float model's: same noise, same classes. Fidelity and diversity
are those of the verdict (the judge `samples`: log realism and rarefied coverage, means over
extractors, 95 % intervals of the difference) and, absolute and in the classifier's features, precision,
recall, density and coverage and Mordido's hashed precision and recall. Prints a table per model, writes
benchmarks/results/bit_widths.json and docs/img/bit_widths.png. A finished model is kept until --again.

Gonçalo Mordido et al. 2021 found that low-bit GANs keep quality and lose diversity.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from niwaki.compression import QuantizeConfig
from niwaki.compression.quantization.convert import quantize_model
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.data import load
from niwaki.deployment import machine
from niwaki.evaluation import EvaluateConfig, lsh_precision_recall, manifold
from niwaki.evaluation.judges import Judge
from niwaki.evaluation.statistics.samples import split_features
from niwaki.models.io import load_model
from niwaki.recipe import load_recipe
from niwaki.workflow.context import EvaluationContext

RESULTS = Path("benchmarks/results/bit_widths.json")
PICTURE = Path("docs/img/bit_widths.png")
RUNS = ("digits-gan", "glyphs-gan", "digits-ddpm")
BITS = (8, 7, 6, 5, 4, 3)
FIDELITY, DIVERSITY = ("precision", "density", "lsh_precision"), ("recall", "coverage", "lsh_recall")


def at(model: GenerativeModel, bits: int) -> GenerativeModel:
    """`model` with weights and activations of so many bits."""
    config = QuantizeConfig(backend="niwaki", bits=bits, activations=bits)  # type: ignore[arg-type]
    return quantize_model(model, config).model


def absolute(real: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Metrics against the test split, with intervals."""
    found = {**manifold(real, made).results(), **lsh_precision_recall(real, made).results()}
    return {
        name: {"value": found[name].value, "interval": list(found[name].interval or ())}
        for name in (*FIDELITY, *DIVERSITY)
    }


def axis(verdict: Any) -> dict[str, Any]:
    names = ("outcome", "delta", "margin", "p_value", "before", "after")
    return {**{n: getattr(verdict, n) for n in names}, "interval": list(verdict.interval)}


def study(run: Path, n: int, seed: int, cache: Path, say: Console) -> dict[str, Any]:
    """The figures of one model at every width."""
    recipe = load_recipe(run / "recipe.yaml")
    data, model = load(recipe.data), load_model(run / "model")
    config = EvaluateConfig(features=("classifier", "random"), n=n, seed=seed)
    context = EvaluationContext(data, config, seed=recipe.seed, cache=cache / "features")
    judge: Judge = context.judge("samples")
    eyes = next(e for e in context.extractors if e.name == "classifier")
    real = split_features(eyes, data, "test")
    before = judge.evidence(model, data, "test", n, seed)
    margins = judge.margins(before, data, n)
    first = before.arrays["samples"]
    rows = [{"bits": 32, "error": 0.0, **absolute(real, eyes(first))}]
    for bits in BITS:
        began = time.perf_counter()
        after = judge.evidence(at(model, bits), data, "test", n, seed)
        found, made = judge.compare(before, after, margins, data), after.arrays["samples"]
        rows.append(
            {
                "bits": bits,
                "error": float(np.abs(made - first).mean() / first.std()),
                **{name: axis(verdict) for name, verdict in found.axes.items()},
                **absolute(real, eyes(made)),
            }
        )
        say.print(f"{run.name}: {bits} bits, {time.perf_counter() - began:.0f} s", highlight=False)
    return {
        "run": run.name,
        "model": recipe.model["name"],
        "n": n,
        "seed": seed,
        "real": len(real),
        "rows": rows,
    }


def shown(found: dict[str, Any]) -> Table:
    table = Table(title=f"{found['run']} ({found['model']}), n = {found['n']}, real {found['real']}")
    for column in ("bits", "error", "Δ fidelity / margin", "Δ diversity / margin", *FIDELITY, *DIVERSITY):
        table.add_column(column, justify="right")
    for row in found["rows"]:
        cells = [_share(row[a]) if a in row else "" for a in ("fidelity", "diversity")]
        metrics = [_metric(row[name]) for name in (*FIDELITY, *DIVERSITY)]
        width = "float" if row["bits"] == 32 else str(row["bits"])
        table.add_row(width, f"{row['error']:.4f}", *cells, *metrics)
    return table


def _share(axis: dict[str, Any]) -> str:
    """Δ in margins: above 1 is a loss."""
    margin = axis["margin"]
    if not margin > 0:
        return f"{axis['delta']:.3f} (no margin)"
    low, high = (v / margin for v in axis["interval"])
    return f"{axis['delta'] / margin:.2f} [{low:.2f}, {high:.2f}] {axis['outcome']}"


def _metric(metric: dict[str, Any]) -> str:
    low, high = metric["interval"] or (float("nan"),) * 2
    return f"{metric['value']:.3f} ± {(high - low) / 2:.3f}"


def picture(every: dict[str, Any], path: Path) -> None:
    """Above: the loss in margins, with its interval. Below: precision and recall by buckets, and by balls."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, len(every), figsize=(4.2 * len(every), 6.2), squeeze=False, sharex=True)
    colours = {"fidelity": "#1b6ca8", "diversity": "#d1495b"}
    for (top, bottom), found in zip(grid.T, every.values(), strict=True):
        rows = found["rows"]
        for shift, (name, colour) in zip((-0.06, 0.06), colours.items(), strict=True):
            told = [r for r in rows if name in r and r[name]["margin"] > 0]
            y = np.array([r[name]["delta"] / r[name]["margin"] for r in told])
            ends = np.array([[v / r[name]["margin"] for v in r[name]["interval"]] for r in told]).T
            x = [r["bits"] + shift for r in told]
            top.errorbar(x, y, np.abs(ends - y), color=colour, marker="o", ms=4, capsize=3, label=name)
        top.axhline(1, color="grey", lw=0.8, ls=":")
        top.axhline(0, color="grey", lw=0.8)
        top.set_yscale("symlog", linthresh=1)
        top.set_yticks([-1, 0, 1, 2, 4], ["−1", "0", "1", "2", "4"])
        top.set_yticks([], minor=True)
        top.set_title(f"{found['run']}, n = {found['n']}")
        kinds = [
            ("lsh_precision", "fidelity", "-"), ("lsh_recall", "diversity", "-"),
            ("precision", "fidelity", ":"), ("recall", "diversity", ":"),
        ]  # fmt: skip
        for name, side, style in kinds:
            x = [9 if r["bits"] == 32 else r["bits"] for r in rows]
            y = np.array([r[name]["value"] for r in rows])
            ends = np.array([r[name]["interval"] for r in rows]).T
            bottom.errorbar(
                x, y, np.abs(ends - y), color=colours[side], ls=style, marker="o", ms=3, label=name
            )
        bottom.set_ylim(0, 1.02)
        bottom.set_xticks([9, *BITS], ["float", *map(str, BITS)])
        bottom.set_xlim(9.4, 2.6)
        bottom.set_xlabel("bits of weights and activations")
    grid[0][0].set_ylabel("loss, in margins of the verdict")
    grid[1][0].set_ylabel("against the test split")
    grid[0][0].legend(frameon=False)
    grid[1][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def directory(name: str) -> Path:
    """A run's directory, named as it is or by its recipe. Raises NiwakiError where there is none."""
    for path in (Path(name), Path("runs") / name):
        if (path / "recipe.yaml").exists() and (path / "model").exists():
            return path
    raise NiwakiError(f"there is no finished run '{name}'; train it first: niwaki train recipes/{name}.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", default=RUNS, help="directories of runs, or names of recipes")
    parser.add_argument("--n", type=int, default=1000, help="pairs of samples")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--draw", action="store_true", help="nothing but the picture")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    say = Console(width=220)
    every = read_json(RESULTS)["models"] if RESULTS.exists() else {}
    try:
        for name in () if options.draw else options.only:
            run = directory(name)
            known = every.get(run.name)
            if options.again or known is None or (known["n"], known["seed"]) != (options.n, options.seed):
                every[run.name] = study(run, options.n, options.seed, Path("runs") / "bench-bits", say)
                write_json(RESULTS, {"machine": machine(), "models": every})
            say.print(shown(every[run.name]))
    except NiwakiError as error:
        sys.exit(str(error))
    picture(every, PICTURE)


if __name__ == "__main__":
    main()
