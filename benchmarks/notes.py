"""Sounds of strings: whether the note that was asked is heard, what a codec keeps, and how fast both are.

    python benchmarks/notes.py runs/strings-codec runs/strings-wavenet
    python benchmarks/notes.py runs/strings-codec --split validation --set temperature=0.9

Of each run the model as trained and its bundle: the share of sounds whose fundamental lies within 50 and 25
cents of the note, and nearer to it than to any other; of a codec SI-SDR and distances of spectra of what it
decodes, by all of its books and by fewer, and the bits per second of its codes; steps per second of a core
and times real time, by CPU time, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import niwaki_runtime
from niwaki.core.contract import GenerativeModel, Runner
from niwaki.core.store import write_json
from niwaki.data import Dataset, load
from niwaki.data.inputs import make_inputs
from niwaki.data.reading.plucked import frequency
from niwaki.deployment import machine
from niwaki.evaluation.metrics import restored_sound  # noqa: F401  (its measures enter themselves)
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.restored import MEASURES
from niwaki.features import build
from niwaki.models.io import load_model
from niwaki.recipe import parse_overrides
from niwaki.workflow.run_directory import RunDirectory

LOWEST, HIGHEST = 100.0, 400.0
"""Hz between which a fundamental is looked for."""
NEARLY = 0.85
"""Share of the highest peak of the autocorrelation that the first one must have: a period's multiples have
high ones, too."""


def fundamental(x: np.ndarray, rate: float) -> float:
    """Hz of a sound `(T,)`: the first high peak of its autocorrelation, made exact by that of the largest
    multiple within half of the sound."""
    n = len(x)
    spectrum = np.abs(np.fft.rfft(x - x.mean(), 2 * n)) ** 2
    r = np.fft.irfft(spectrum)[:n] / np.arange(n, 0, -1)
    first, last = int(rate / HIGHEST), int(rate / LOWEST)
    inner = r[first : last + 1]
    peaks = [k for k in range(1, len(inner) - 1) if inner[k - 1] <= inner[k] >= inner[k + 1]]
    if not peaks:
        return float("nan")
    best = max(inner[k] for k in peaks)
    lag = _summit(r, first + next(k for k in peaks if inner[k] >= NEARLY * best))
    for count in range(2, n // 2):  # each multiple is looked for near where the one before says
        near = round(lag * count)
        if near + 2 >= n // 2:
            break
        lag = _summit(r, near - 1 + int(np.argmax(r[near - 1 : near + 2]))) / count
    return rate / lag


def _summit(r: np.ndarray, k: int) -> float:
    """Where the parabola through three values is highest, at most a step away."""
    a, b, c = r[k - 1 : k + 2]
    bend = a - 2 * b + c
    return k + (float(np.clip(0.5 * (a - c) / bend, -1.0, 1.0)) if bend < 0 else 0.0)


def heard(x: np.ndarray, asked: np.ndarray, notes: tuple[str, ...], rate: float) -> dict[str, float]:
    """Shares of sounds `(n, T)` whose note is the one that was asked."""
    found = np.array([fundamental(one, rate) for one in x])
    hertz = np.array([frequency(note) for note in notes])
    cents = np.nan_to_num(np.abs(1200 * np.log2(found[:, None] / hertz)), nan=np.inf)
    off = cents[np.arange(len(x)), asked]
    return {
        "within 50 cents": float((off <= 50).mean()),
        "within 25 cents": float((off <= 25).mean()),
        "nearest of the notes": float((cents.argmin(1) == asked).mean()),
    }


def kept(model: GenerativeModel, x: np.ndarray, seconds: float, dataset: Dataset) -> list[dict[str, float]]:
    """What is left of sounds that went through the codes, for each number of books."""
    (extractor,) = build(["log-mel"], dataset)
    books = model.config.books  # type: ignore[attr-defined]
    rows = []
    with torch.no_grad(), model.running():
        codes = model.encode(torch.from_numpy(x))  # type: ignore[operator]
        for k in range(1, books + 1):
            made = model.decode(codes, k).numpy()  # type: ignore[operator]
            bits = codes.shape[1] / books * k * np.log2(model.config.codes)  # type: ignore[attr-defined]
            found = {m.name: m.of(made, x, model.spec.x) for m in MEASURES.values()}
            rows.append(
                {"books": k, "bits per second": float(bits / seconds)}
                | {name: float(v.mean()) for name, v in found.items() if v is not None}
                | {
                    "Fréchet distance (log-mel) to them": frechet_distance(
                        extractor(x), extractor(made)
                    ).value
                }
            )
    return rows


def speed(bundle: Runner, seconds: float, overrides: Mapping[str, Any]) -> dict[str, float]:
    """Times real time of one sound and of sixteen, the best of four."""
    found = {}
    for n in (1, 16):
        times = []
        for seed in range(4):
            start = time.process_time()
            bundle.run("sample", n, seed=seed, **overrides)
            times.append(time.process_time() - start)
        found[f"times real time, {n} at once"] = n * seconds / min(times)
    return found


def row_of(place: Path, split: str, n: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    run = RunDirectory.open(place)
    dataset: Dataset = load(run.recipe.data)
    part, spec = dataset.split(split), dataset.spec
    n, rate = min(n, len(part)), float(spec.x.rate or 0)
    x, y = part.values().numpy()[:n], part.y.numpy()[:n]
    seconds = x.shape[-1] / rate
    row: dict[str, Any] = {"run": place.name, "split": split, "n": n}
    row["real"] = heard(x, y, spec.class_names, rate)
    model = load_model(run.model)
    asked = make_inputs(model, "sample", n, part)
    runners: dict[str, Runner] = {"model": model}
    if run.bundle.exists():
        runners["bundle"] = niwaki_runtime.load(run.bundle, engine="onnxruntime", threads=1)
    for name, runner in runners.items():
        made = runner.backend().numpy(runner.run("sample", n, seed=0, inputs=asked, **overrides))
        row[name] = heard(made, y, spec.class_names, rate)
    if "bundle" in runners:
        row["speed"] = speed(runners["bundle"], seconds, overrides)
    if hasattr(model, "reconstruction"):
        row["codec"] = kept(model, x, seconds, dataset)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    parser.add_argument("-n", type=int, default=400)
    parser.add_argument("--set", nargs="*", default=(), help="fields of the sampler, as temperature=0.9")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/notes.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    overrides = {".".join(path): value for path, value, _ in parse_overrides(list(options.set))}
    rows = [row_of(place, options.split, options.n, overrides) for place in options.runs]
    for row in rows:
        for name, found in row.items():
            for one in found if isinstance(found, list) else [found]:
                print(f"{name}: {one}")
    write_json(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
