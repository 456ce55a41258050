"""How fast the evaluation engine is, side by side in one run: `niwaki.evaluation` against prdc and scipy.

    python benchmarks/evaluation.py                              # N = 10 000 and 20 000, D = 2048
    python benchmarks/evaluation.py --n 5000 --rounds 5 --json evaluation.json
    python benchmarks/evaluation.py --ways niwaki prdc gemm --memory

niwaki:  `gram_metrics`: every neighbour metric of `manifold` and the kernel distance, per-sample scores,
         intervals and exact decisions included
prdc:    `prdc.compute_prdc`: precision, recall, density, coverage
frechet: `frechet_distance`, from features to distance
sqrtm:   means and covariances with numpy, the product's root with `scipy.linalg.sqrtm`
gemm:    float32 products (4096 × D)·(D × 4096) with torch, which is what the machine can do. The share
         reached counts the 4·N²·D operations that the three Gram matrices need (symmetric ones once)

Features are float32, rectified mixtures of 40 hidden factors and noise, as a network's last layer. In every
round each way is timed once; the order rotates. Quoted: the median over the rounds with its quartiles, and
ratios of medians. With `--memory` each way runs once more in a fresh process that holds only the features:
peak resident memory above what it had before the call.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from niwaki.core.store import write_json
from niwaki.deployment import machine
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.gram import gram_metrics

WAYS = ("niwaki", "prdc", "frechet", "sqrtm", "gemm")
GEMM = 4096
FACTORS = 40


def features(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated (n, d) float32; the generated ones are a little off."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(FACTORS, d)).astype(np.float32) / np.float32(np.sqrt(FACTORS))

    def draw(shift: float) -> np.ndarray:
        hidden = rng.normal(size=(n, FACTORS)).astype(np.float32) + np.float32(shift)
        out = hidden @ weight
        out += np.float32(0.3) * rng.standard_normal(out.shape, dtype=np.float32)
        return np.maximum(out, 0, out=out)

    return draw(0.0), draw(0.1)


def niwaki_way(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {name: result.value for name, result in gram_metrics(x, y).results().items()}


def prdc_way(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        return {name: float(v) for name, v in compute_prdc(x, y, nearest_k=5).items()}


def frechet_way(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {"frechet": frechet_distance(x, y).value}


def sqrtm_way(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """As pytorch-fid and its kin."""
    from scipy.linalg import sqrtm

    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(0) - y.mean(0)
    root = sqrtm(a @ b)
    return {"frechet": float(shift @ shift + np.trace(a) + np.trace(b) - 2.0 * np.trace(root.real))}


def gemm_way(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    a, b = (torch.from_numpy(np.resize(v, (GEMM, v.shape[1]))) for v in (x, y))
    out = torch.empty(GEMM, GEMM)
    torch.mm(a, b.T, out=out)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(a, b.T, out=out)
        seconds.append(time.perf_counter() - began)
    return {"flops": 2.0 * GEMM * GEMM * x.shape[1] / statistics.median(seconds)}


CALLS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "niwaki": niwaki_way,
    "prdc": prdc_way,
    "frechet": frechet_way,
    "sqrtm": sqrtm_way,
    "gemm": gemm_way,
}


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell the peak memory of a process")


def memory_of(way: str, n: int, d: int, seed: int, threads: int) -> int:
    """Extra bytes at the peak, in a fresh process."""
    command = [sys.executable, __file__, "--child", way, "--n", str(n), "--d", str(d), "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--threads", str(threads)], check=True, capture_output=True, text=True, env=os.environ
    )
    return int(json.loads(done.stdout.splitlines()[-1])["extra_bytes"])


def child(way: str, n: int, d: int, seed: int) -> None:
    """Warms up on a few samples, so that libraries and thread pools are there, then on all of them."""
    small = features(600, min(d, 64), seed)
    CALLS[way](*small)
    x, y = features(n, d, seed)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
    before = peak_memory()
    CALLS[way](x, y)
    print(json.dumps({"extra_bytes": peak_memory() - before}))


def summary(values: list[float]) -> dict[str, Any]:
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"median": middle, "quartiles": [low, high], "all": values}


def measure(n: int, asked: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    x, y = features(n, asked.d, asked.seed)
    ways = list(asked.ways)
    for way in ways:  # thread pools and libraries start outside the clock
        CALLS[way](x[:600], y[:600])
    seconds: dict[str, list[float]] = {way: [] for way in ways if way != "gemm"}
    rates: list[float] = []
    values: dict[str, dict[str, float]] = {}
    for turn in range(asked.rounds):
        for i in range(len(ways)):
            way = ways[(turn + i) % len(ways)]
            began = time.perf_counter()
            values[way] = CALLS[way](x, y)
            took = time.perf_counter() - began
            if way == "gemm":
                rates.append(values[way]["flops"])
            else:
                seconds[way].append(took)
            say(f"N = {n}: round {turn + 1} of {asked.rounds}, {way}: {took:.2f} s")
    found: dict[str, Any] = {
        "n": n,
        "d": asked.d,
        "seed": asked.seed,
        "rounds": asked.rounds,
        "seconds": {way: summary(v) for way, v in seconds.items()},
        "values": values,
    }
    if rates:
        found["gemm_flops"] = summary(rates)
        if "niwaki" in seconds:
            reached = 4.0 * n * n * asked.d / found["seconds"]["niwaki"]["median"]
            found["gemm_share"] = reached / found["gemm_flops"]["median"]
    if asked.memory:
        found["extra_bytes"] = {
            way: memory_of(way, n, asked.d, asked.seed, asked.threads) for way in ways if way != "gemm"
        }
    return found


def table(figures: list[dict[str, Any]]) -> Table:
    out = Table("N", "way", "seconds", "×", "extra MB", "share of GEMM", title="Median [quartiles]")
    pairs = {"niwaki": "prdc", "frechet": "sqrtm"}
    for found in figures:
        for way, s in found["seconds"].items():
            low, high = s["quartiles"]
            slow = found["seconds"].get(pairs.get(way, ""))
            extra = found.get("extra_bytes", {}).get(way)
            share = found.get("gemm_share") if way == "niwaki" else None
            out.add_row(
                f"{found['n']}",
                way,
                f"{s['median']:.2f} [{low:.2f}–{high:.2f}]",
                "" if slow is None else f"{slow['median'] / s['median']:.1f}",
                "" if extra is None else f"{extra / 1e6:.0f}",
                "" if share is None else f"{share:.0%} of {found['gemm_flops']['median'] / 1e9:.0f} GFLOP/s",
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", nargs="+", type=int, default=[10_000, 20_000], help="samples of each set")
    parser.add_argument("--d", type=int, default=2048, help="features")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--rounds", type=int, default=3, help="times each way is timed")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="peak memory of each way, in fresh processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.child:
        child(asked.child, asked.n[0], asked.d, asked.seed)
        return
    progress, console = Console(stderr=True), Console()
    figures = []
    for n in asked.n:
        figures.append(measure(n, asked, lambda text: progress.print(text, highlight=False)))
        if asked.json:
            write_json(asked.json, {"machine": machine(), "threads": asked.threads, "figures": figures})
    console.print(table(figures))


if __name__ == "__main__":
    main()
