"""Compressing while training against compressing the finished model, for a GAN: mean ± spread over seeds.

    python benchmarks/during.py                       # seeds 0, 1 and 2; finished arms are kept
    python benchmarks/during.py --seeds 0 --quick     # a try-out: its figures mean nothing

Every arm takes as many training steps in all, and ends with int8 weights and activations that it was trained
with. Spread is the standard deviation over trainings; distances are in the features of one classifier for
all, means over sampling seeds.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from compression_rows.rows import slug
from rich.console import Console
from rich.table import Table

import niwaki_runtime
from niwaki.compression import CompressConfig, compress
from niwaki.compression.arithmetic import parameters
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_json, read_json, write_json
from niwaki.data import Dataset
from niwaki.data import load as load_data
from niwaki.data.inputs import make_inputs
from niwaki.deployment import bundle_bytes, export_graphs, machine, package
from niwaki.evaluation import frechet_distance, manifold
from niwaki.evaluation.statistics.samples import split_features
from niwaki.features import build as build_extractors
from niwaki.models.io import load_model, save_model
from niwaki.models.registry import build
from niwaki.recipe import Recipe, load_recipe
from niwaki.training import fit
from niwaki_runtime.programs import SAMPLING

RECIPE, TOTAL, RATIO = "digits-gan", 4000, 0.5
Steps = list[dict[str, Any]]


def taught(steps: int) -> dict[str, Any]:
    """Fine-tuning towards the finished model."""
    return {"kind": "finetune", "steps": steps, "task_loss_weight": 0.0}


def adversarial(steps: int, lr: float = 1e-3) -> dict[str, Any]:
    """The training goes on as it was: the model's own losses, no teacher."""
    rates = {"lr": lr, "own_lr": lr, "betas": (0.0, 0.99), "batch": 64, "ema": 0.995}
    return {
        "kind": "finetune",
        "steps": steps,
        "task_loss_weight": 1.0,
        "outputs": 0.0,
        "spread": 0.0,
        **rates,
    }


def arms(total: int) -> dict[str, tuple[dict[str, Any], int, Steps]]:
    """name → (changes of the model, steps of training before anything is compressed, plan).

    All add up to `total` steps. Fake-quantized training at the end takes a tenth of it.
    """
    qat, first = total // 10, total * 4 // 10
    early = total // 4
    rest = total - qat
    own_qat = {"kind": "quantize", "backend": "niwaki", "train": qat}
    own_int8: Steps = [{"kind": "quantize", "backend": "niwaki"}, adversarial(qat, 1e-4)]
    rounds, each = 5, max(1, total // 20)
    prune = {"kind": "prune", "ratio": RATIO, "importance": "activation"}
    gradual = {**prune, "rounds": rounds, "recover": each, "schedule": "cubic"}
    lasso_steps = total * 3 // 10
    lasso = {"kind": "prune", "method": "group_lasso", "ratio": RATIO, "train": lasso_steps}
    return {
        "uncompressed": ({}, total, []),
        "after: prune, distil, QAT": (
            {},
            first,
            [prune, taught(rest - first), own_qat],
        ),
        "after: prune, distil, temperature, QAT": (
            {},
            first,
            [prune, taught(rest - first), {"kind": "sampling", "temperature": "match"}, own_qat],
        ),
        "during: gradual pruning, QAT": (
            {},
            early,
            [gradual, adversarial(rest - early - (rounds - 1) * each), *own_int8],
        ),
        "during: group lasso, QAT": (
            {},
            early,
            [lasso, adversarial(rest - early - lasso_steps), *own_int8],
        ),
        "small from scratch, QAT": ({"width": 32, "max_width": 64}, rest, own_int8),
    }


def trained(
    recipe: Recipe, dataset: Dataset, changes: Mapping[str, Any], steps: int, seed: int, at: Path
) -> GenerativeModel:
    """A model that was trained for so many steps, found again in `at`."""
    if (at / "model.json").exists():
        return load_model(at)
    torch.manual_seed(seed)
    model = build(recipe.model["name"], {**recipe.model_settings, **changes}, dataset.spec)
    assert recipe.train is not None
    config = recipe.train.model_copy(update={"steps": steps, "checkpoint_every": 0})
    fit(model, dataset.train, config, seed=seed)
    save_model(model, at)
    return model


def judge(bundle: Path, dataset: Dataset, extractor: Any, n: int, seeds: int) -> dict[str, float]:
    """Fréchet distance and coverage against the test split, means over sampling seeds, on the engine."""
    loaded = niwaki_runtime.load(bundle, engine="openvino", threads=2)
    asked = make_inputs(loaded, SAMPLING, n, dataset.test)
    real, rows = split_features(extractor, dataset, "test"), []
    for seed in range(seeds):
        made = extractor(loaded.sample(n, seed=seed, condition=asked))
        near = manifold(real, made)
        rows.append((frechet_distance(real, made).value, float(near.coverage), float(near.precision)))
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    return dict(zip(("frechet", "coverage", "precision"), means, strict=True))


def one(
    name: str,
    arm: tuple[dict[str, Any], int, Steps],
    seed: int,
    recipe: Recipe,
    dataset: Dataset,
    extractor: Any,
    out: Path,
    n: int,
) -> dict[str, Any]:
    """One arm with one seed: made, judged, kept."""
    changes, steps, plan = arm
    key = hash_json([name, changes, steps, plan, seed, n, dataset.fingerprint, recipe.train])
    label = slug(name)
    file = out / f"{label}-{seed}.json"
    if file.exists() and (known := read_json(file)).get("key") == key:
        return dict(known)
    began = time.perf_counter()
    start = hash_json([changes, steps, seed, recipe.train, dataset.fingerprint])[:12]
    model = trained(recipe, dataset, changes, steps, seed, out / "starts" / start)
    work = out / f"{label}-{seed}"
    if plan:
        config = CompressConfig.model_validate({"steps": plan, "measure": False})
        made = compress(model, dataset, config, workdir=work, seed=seed, extractor=extractor)
        bundle, model = made.bundle, made.model
    else:
        shutil.rmtree(work, ignore_errors=True)
        bundle = package(model, export_graphs(model, work / "graphs"), work / "model.niwaki")
    record = {
        "arm": name,
        "seed": seed,
        "key": key,
        "bytes": bundle_bytes(bundle),
        "parameters": parameters(model),
        **judge(bundle, dataset, extractor, n, 3),
        "seconds": time.perf_counter() - began,
    }
    write_json(file, record)
    return record


def spread(values: list[float], digits: int = 3) -> str:
    """mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):,.{digits}f} ± {deviation:,.{digits}f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=[], help="beginnings of names; all by default")
    parser.add_argument("--steps", type=int, default=TOTAL, help="training steps of every arm, in all")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    say = Console(stderr=True)
    total, n = (80, 100) if options.quick else (options.steps, 1500)
    out = Path("runs/bench-during") / ("quick" if options.quick else str(total))
    recipe = load_recipe(RECIPE)
    dataset = load_data(recipe.data)
    (extractor,) = build_extractors(["classifier"], dataset, cache=out.parent / "cache", seed=0)
    shown = Table(
        *("", "seeds", "bytes", "parameters", "Fréchet", "coverage", "precision"),
        title=f"{RECIPE}: {total} training steps in every arm, mean ± sd over seeds, n={n}",
    )
    records = []
    for name, arm in arms(total).items():
        if options.arms and not name.startswith(tuple(options.arms)):
            continue
        found = []
        for seed in options.seeds:
            say.print(f"{name}, seed {seed} …", highlight=False)
            try:
                found.append(one(name, arm, seed, recipe, dataset, extractor, out, n))
                say.print(f"  {found[-1]['seconds']:.0f} s", highlight=False)
            except NiwakiError as error:
                say.print(f"  failed: {error}", style="red", highlight=False)
                records.append({"arm": name, "seed": seed, "failure": str(error)})
        records += found
        if not found:
            shown.add_row(name, "0", "failed")
            continue
        columns = [[r[k] for r in found] for k in ("bytes", "parameters", "frechet", "coverage", "precision")]
        shown.add_row(
            name,
            str(len(found)),
            *(spread(c, 0) for c in columns[:2]),
            *(spread(c) for c in columns[2:]),
        )
    (Console() if sys.stdout.isatty() else Console(width=150)).print(shown)
    target = Path("benchmarks/results") / ("quick-during.json" if options.quick else "during.json")
    write_json(target, {"machine": machine(), "steps": total, "n": n, "records": records})
    say.print(f"figures in {target}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
