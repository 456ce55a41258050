"""What compression gained: bytes, latency and memory of finished runs, by `benchmarks/PROTOCOL.md`.

    python benchmarks/compression.py                    # every recipe that compresses; trained if need be
    python benchmarks/compression.py runs/glyphs-gan    # finished runs, or recipes, by name or path
    python benchmarks/compression.py --json figures.json --rounds 60

Prints one table per run and writes all figures with their spread as JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.deployment import Latency, bundle_bytes, machine, measure_together
from niwaki.deployment.baselines import compiled_bf16, eager_float32, torch_threads
from niwaki.deployment.measure import bundle_way
from niwaki.deployment.memory import bundle_memory, model_memory
from niwaki.models.io import load_model
from niwaki.recipe import load_recipe
from niwaki.store import jsonable, read_json, write_json
from niwaki.workflow.measure import weight_bytes
from niwaki.workflow.run import run
from niwaki.workflow.rundir import RunDirectory, is_run
from niwaki_runtime.bundle import inspect

BATCHES = (1, 16)
EAGER, COMPILED, SMALL = "torch eager float32", "torch.compile bf16", "openvino, compressed"


def finished(what: str) -> RunDirectory:
    """A run directory as it is; a recipe is run (which does nothing where all is done)."""
    return RunDirectory.open(what) if is_run(what) else run(what)


def compressing_recipes() -> list[str]:
    return [str(p) for p in sorted(Path("recipes").glob("*.yaml")) if load_recipe(p).compress is not None]


def figures(
    directory: RunDirectory, rounds: int, threads: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Everything about one run: `{"ways": {name: {bytes, memory_bytes, latency: {n: …}}}, …}`."""
    model = load_model(directory.model)
    original, small = directory.original_bundle, directory.bundle
    bundles = {
        "onnxruntime, float32": (original, "onnxruntime"),
        "openvino, float32": (original, "openvino"),
        "onnxruntime, compressed": (small, "onnxruntime"),
        SMALL: (small, "openvino"),
    }
    progress(f"{directory.path}: latency")
    latency = latencies(model, bundles, rounds, threads, progress)
    ways: dict[str, dict[str, Any]] = {name: {"latency": by} for name, by in latency.items()}
    progress(f"{directory.path}: memory")
    ways[EAGER] |= {
        "bytes": weight_bytes(model),
        "memory_bytes": model_memory(directory.model, threads=threads, n=max(BATCHES)),
    }
    for name, (path, engine) in bundles.items():
        used = bundle_memory(path, engine=engine, threads=threads, n=max(BATCHES))
        ways[name] |= {"bytes": bundle_bytes(path), "memory_bytes": used}
    manifest = inspect(small)
    known = read_json(directory.compression) if directory.compression.exists() else {}
    return {
        "run": directory.recipe.name,
        "seed": directory.recipe.seed,
        "rounds": rounds,
        "threads": threads,
        "evaluations": manifest.sampler.evaluations(),
        "quantized": {name: dict(graph.quantized) for name, graph in manifest.graphs.items()},
        "verdict": known.get("verdict", {}),
        "machine": machine(),
        "ways": ways,
    }


def latencies(
    model: GenerativeModel,
    bundles: dict[str, tuple[Path, str]],
    rounds: int,
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, dict[int, Latency]]:
    ways: dict[str, Callable[[int], Any]] = {EAGER: eager_float32(model), COMPILED: compiled_bf16(model)}
    for name, (path, engine) in bundles.items():
        ways[name] = bundle_way(path, engine=engine, threads=threads)

    def step(done: int, total: int) -> None:
        if done % 10 == 0:
            progress(f"  {done} of {total} rounds")

    with torch_threads(threads):
        return measure_together(ways, batches=BATCHES, rounds=rounds, progress=step)


def table(found: dict[str, Any]) -> Table:
    """Rows are ways to sample; × is against eager float32, in brackets against torch.compile."""
    ways = found["ways"]
    title = f"{found['run']}: {found['evaluations']} calls a sample, median of {found['rounds']} (quartiles)"
    shown = Table(
        "",
        "bytes",
        *(f"sample({n}), ms" for n in BATCHES),
        *(f"× b{n}" for n in BATCHES),
        "peak MB",
        title=title,
    )
    for name, way in ways.items():
        times = [way["latency"][n] for n in BATCHES]
        ratios = []
        for n, time in zip(BATCHES, times, strict=True):
            slow, compiled = (ways[base]["latency"][n].median_ms for base in (EAGER, COMPILED))
            ratios.append(f"{slow / time.median_ms:.1f} ({compiled / time.median_ms:.1f})")
        size, memory = way.get("bytes"), way.get("memory_bytes")
        size_text = "" if size is None else f"{size:,}"
        if name == SMALL and size:
            size_text += f" ({ways[EAGER]['bytes'] / size:.1f}×)"
        shown.add_row(
            name,
            size_text,
            *(f"{t.median_ms:.3f} ({t.low_ms:.3f}–{t.high_ms:.3f})" for t in times),
            *ratios,
            "" if memory is None else f"{memory / 1e6:.1f}",
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", help="run directories or recipes; every recipe that compresses by default"
    )
    parser.add_argument("--rounds", type=int, default=30, help="timed calls per figure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/compression.json"))
    arguments = parser.parse_args()
    told = Console(stderr=True)
    shown = Console() if sys.stdout.isatty() else Console(width=150)
    records = []
    try:
        for what in arguments.what or compressing_recipes():
            told.print(f"{what}: run", highlight=False)
            records.append(
                figures(
                    finished(what),
                    arguments.rounds,
                    arguments.threads,
                    lambda text: told.print(text, highlight=False),
                )
            )
            shown.print(table(records[-1]))
    except NiwakiError as error:
        told.print(str(error), style="red", highlight=False)
        return 1
    write_json(arguments.json, jsonable(records))
    told.print(f"figures in {arguments.json}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
