"""How fast tokens are trained on, drawn and read: `docs-transformer` beside nanoGPT's recipe and a GPT-2 of
`transformers` of the same size, in one run.

    python benchmarks/token_speed.py runs/docs-transformer     # a finished run: its bundle draws and reads
    python benchmarks/token_speed.py runs/docs-transformer --rounds 5 --json out.json

training: tokens a second of whole steps (forward, backward, clipping, optimizer) on the recipe's batches, in
          bf16 autocast where the hardware has it. nanoGPT is our own writing of its recipe (`text.py`), and
          `transformers` a loop without its Trainer around `GPT2LMHeadModel`, with fused AdamW; its attention
          is the faster of `sdpa` and `eager`
drawing:  tokens a second of whole windows from nothing, temperature 1: the bundle on each engine, and
          `generate` with the faster of a dynamic and a static cache, compiled where that is faster, float32
          or bf16
reading:  tokens a second of a prompt of all but one token

All ways take turns in every round; medians and quartiles of the rounds. Weights do not matter for speed: the
peer's are fresh.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from text import nanogpt, ours, take_step

import niwaki_runtime
from niwaki.core.contract import NiwakiError
from niwaki.core.store import write_json
from niwaki.data import Dataset, Feeder, load
from niwaki.deployment import machine
from niwaki.recipe import Recipe, load_recipe
from niwaki.training.bf16 import has_bf16
from niwaki.workflow.run_directory import RunDirectory

FEW = 4  # steps that are timed and taken off, so that the start does not count
MORE = 8  # steps beyond them
BATCHES = (1, 16)
Way = Callable[[], float]
"""One measurement: tokens a second."""


def gpt2(recipe: Recipe, dataset: Dataset, attention: str = "eager") -> Any:
    """A fresh GPT-2 of the recipe's size."""
    from transformers import GPT2Config, GPT2LMHeadModel

    c = recipe.model_settings
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=dataset.spec.levels + 1,
            n_positions=dataset.spec.shape[0],
            n_embd=c["width"],
            n_layer=c["depth"],
            n_head=c["heads"],
            bos_token_id=dataset.spec.levels,
            eos_token_id=None,
            attn_implementation=attention,
        )
    )


def loop(recipe: Recipe, dataset: Dataset, *, steps: int, attention: str, **_: Any) -> None:
    """A plain loop around the peer's model."""
    model = gpt2(recipe, dataset, attention).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    feeder = Feeder(dataset.train, recipe.train.batch, seed=0)  # type: ignore[union-attr]
    bf16 = has_bf16(torch.device("cpu"))

    def logits_of(x: torch.Tensor) -> Any:
        return model(F.pad(x[:, :-1], (1, 0), value=dataset.spec.levels)).logits

    for step in range(steps):
        take_step(model, logits_of, optimizer, feeder.batch(step).x, bf16)


def training_ways(recipe: Recipe, dataset: Dataset) -> dict[str, Way]:
    def rate(train: Callable[..., Any], **given: Any) -> float:
        spent = []
        for steps in (FEW, FEW + MORE):
            begun = time.perf_counter()
            train(recipe, dataset, steps=steps, **given)
            spent.append(time.perf_counter() - begun)
        tokens = recipe.train.batch * dataset.spec.shape[0]  # type: ignore[union-attr]
        return MORE * tokens / (spent[1] - spent[0])

    kinds = {kind: rate(loop, attention=kind) for kind in ("eager", "sdpa")}
    best = max(kinds, key=lambda kind: kinds[kind])
    return {
        "niwaki": lambda: rate(ours, seed=0, rate=4e-3),
        "nanoGPT's recipe": lambda: rate(nanogpt, seed=0, rate=1e-3),
        f"transformers ({best})": lambda: rate(loop, attention=best),
    }


def peers_of_generate(recipe: Recipe, dataset: Dataset, n: int) -> dict[str, Callable[[], Any]]:
    """The peer's ways to draw a window: with either cache, in either precision; the static one compiles."""
    length = dataset.spec.shape[0]
    first = torch.full((n, 1), dataset.spec.levels)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = gpt2(recipe, dataset, "sdpa").eval().to(dtype)
        settings = {"max_new_tokens": length - 1, "do_sample": True, "pad_token_id": 0}

        def dynamic(model: Any = model, settings: Any = settings) -> Any:
            return model.generate(first, **settings)

        def static(model: Any = model, settings: Any = settings) -> Any:
            return model.generate(first, cache_implementation="static", **settings)

        name = str(dtype).removeprefix("torch.")
        found[f"dynamic {name}"], found[f"static {name}"] = dynamic, static
    return found


def seconds_of(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    with torch.no_grad():
        call()
    return time.perf_counter() - begun


def fastest(calls: dict[str, Callable[[], Any]]) -> str:
    """Of a few ways, after a call of each that compiles what is compiled; one that fails is left out."""
    found = {}
    for name, call in calls.items():
        try:
            seconds_of(call)
        except Exception as error:
            print(f"transformers, {name}: {type(error).__name__}", file=sys.stderr)
            continue
        found[name] = min(seconds_of(call) for _ in range(2))
    return min(found, key=lambda name: found[name])


def drawing_ways(recipe: Recipe, dataset: Dataset, bundles: dict[str, Any], n: int) -> dict[str, Way]:
    tokens = n * dataset.spec.shape[0]
    peers = peers_of_generate(recipe, dataset, n)
    best = fastest(peers)
    ways: dict[str, Way] = {
        f"niwaki, {engine}": lambda b=bundle: (
            tokens / seconds_of(lambda: b.sample(n, seed=0, temperature=1.0))
        )
        for engine, bundle in bundles.items()
    }
    ways[f"transformers ({best})"] = lambda: (tokens - n) / seconds_of(peers[best])
    return ways


def reading_ways(recipe: Recipe, dataset: Dataset, bundles: dict[str, Any], n: int) -> dict[str, Way]:
    """A whole prompt, and the one token that is left."""
    length = dataset.spec.shape[0]
    prompt = dataset.test.values(torch.arange(n)).long()[:, : length - 1]
    asked = {"prompt": prompt.numpy()}
    models = {str(d)[6:]: gpt2(recipe, dataset, "sdpa").eval().to(d) for d in (torch.float32, torch.bfloat16)}
    calls = {k: (lambda m=m: m(prompt, logits_to_keep=1, use_cache=True)) for k, m in models.items()}
    best = fastest(calls)
    ways: dict[str, Way] = {
        f"niwaki, {engine}": lambda b=bundle: (
            prompt.numel() / seconds_of(lambda: b.run("continue", n, seed=0, inputs=asked))
        )
        for engine, bundle in bundles.items()
    }
    ways[f"transformers ({best})"] = lambda: prompt.numel() / seconds_of(calls[best])
    return ways


def measured(ways: dict[str, Way], rounds: int, console: Console, title: str) -> list[dict[str, Any]]:
    """Each way once in every round, after one that does not count."""
    names = list(ways)
    found: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds + 1):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            value = ways[name]()
            if k:
                found[name].append(value)
        console.print(f"{title}: round {k} of {rounds}")
    rows = []
    for name, values in found.items():
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        rows.append({"what": title, "way": name, "tokens_per_second": middle, "low": low, "high": high})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of docs-transformer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/token_speed.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console(stderr=True)
    try:
        directory = RunDirectory.open(given.run)
        recipe = load_recipe(directory.path / "recipe.yaml")
        dataset = load(recipe.data)
        file = next(directory.path.glob("*.niwaki"))
        bundles = {
            engine: niwaki_runtime.load(file, engine=engine, threads=given.threads)
            for engine in ("openvino", "onnxruntime")
        }
    except (NiwakiError, StopIteration) as error:
        console.print(f"{given.run} is no finished run with a bundle: {error}")
        return 2
    rows = measured(training_ways(recipe, dataset), given.rounds, console, "training")
    for n in BATCHES:
        drawing = drawing_ways(recipe, dataset, bundles, n)
        rows += measured(drawing, given.rounds, console, f"drawing, batch {n}")
        reading = reading_ways(recipe, dataset, bundles, n)
        rows += measured(reading, given.rounds, console, f"reading, batch {n}")
    table = Table("what", "way", "tokens/s", "quartiles")
    for row in rows:
        table.add_row(
            row["what"],
            row["way"],
            f"{row['tokens_per_second']:.0f}",
            f"{row['low']:.0f} … {row['high']:.0f}",
        )
    Console().print(table)
    write_json(given.json, {"machine": machine(), "threads": given.threads, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
