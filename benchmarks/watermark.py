"""How surely a picture's watermark is found: trained model, compressed bundle, and what pictures go through.

    python benchmarks/watermark.py runs/digits-gan                # 400 pictures a side
    python benchmarks/watermark.py runs/digits-gan --quick        # 120, fewer conditions
    python benchmarks/watermark.py                                # real photographs alone

A row is one carrier under one condition: of each picture the key's p, marked and unmarked. `AUC` is of
−log p, `found` the share of marked pictures with p below 1 % and 0.1 %, `false` that of unmarked ones
below 1 %, `of 16` the share of sets of 16 pictures that are found at 0.1 %. The cost is the verdict's own
comparison of unmarked with marked samples of the same seeds. Photographs are crops of scikit-learn's two,
in the place of a model that makes such pictures.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import niwaki
from niwaki.deployment import machine
from niwaki.evaluation.statistics.auroc import auroc
from niwaki_runtime.specs import Real, ValueSpec
from niwaki_runtime.watermark import Key, Watermark, detect
from niwaki_runtime.watermark.base import mark_of

N, QUICK, SET = 400, 120, 16
PHOTOGRAPHS, SIDE = 160, 96

Condition = Callable[[np.ndarray, ValueSpec], np.ndarray]


def jpeg(quality: int) -> Condition:
    def through(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        out = []
        for one in _bytes_of(x, spec):
            file = io.BytesIO()
            Image.fromarray(one if one.shape[-1] == 3 else one[..., 0]).save(file, "jpeg", quality=quality)
            back = np.atleast_3d(np.asarray(Image.open(file)))
            out.append(back.transpose(2, 0, 1))
        return _values_of(np.stack(out), spec)

    return through


def noise(share: float) -> Condition:
    def through(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        rng = np.random.default_rng(0)
        added = x + share * (spec.high - spec.low) * rng.normal(size=x.shape)
        return np.clip(added, spec.low, spec.high).astype(np.float32)

    return through


def crop(share: float) -> Condition:
    def through(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        cut = max(1, round(share * x.shape[-1]))
        return x[..., cut:, cut:]

    return through


def rounded(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """To 17 levels, as digits are stored."""
    share = np.round((x - spec.low) / (spec.high - spec.low) * 16) / 16
    return (spec.low + share * (spec.high - spec.low)).astype(np.float32)


CONDITIONS: dict[str, Condition] = {
    "as made": lambda x, spec: x,
    "JPEG 90": jpeg(90),
    "JPEG 70": jpeg(70),
    "JPEG 50": jpeg(50),
    "noise 2 %": noise(0.02),
    "cut by a tenth": crop(0.1),
    "17 levels": rounded,
}


def _bytes_of(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    share = np.clip((x - spec.low) / (spec.high - spec.low), 0, 1)
    return (share * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def _values_of(levels: np.ndarray, spec: ValueSpec) -> np.ndarray:
    return (spec.low + levels / 255 * (spec.high - spec.low)).astype(np.float32)


def chances(x: np.ndarray, spec: ValueSpec, key: Key) -> np.ndarray:
    """−log₁₀ p of each picture."""
    own = ValueSpec(spec.modality, x.shape[1:], axes=spec.axes, values=spec.values)
    (each, _), *_ = mark_of(own).evidence(list(x), own, [key])
    return np.array([-np.log10(max(one.p, 1e-300)) for one in each])


def row(
    name: str, how: str, marked: np.ndarray, bare: np.ndarray, spec: ValueSpec, key: Key
) -> Sequence[str]:
    through = CONDITIONS[how]
    x, y = through(marked, spec), through(bare, spec)
    with_key, without = chances(x, spec, key), chances(y, spec, key)
    area, (low, high) = auroc(with_key, without)
    own = ValueSpec(spec.modality, x.shape[1:], axes=spec.axes, values=spec.values)
    sets = [
        detect(list(x[k : k + SET]), own, key, decoys=0).together.p for k in range(0, len(x) - SET + 1, SET)
    ]
    return (
        name, how, f"{area:.3f} [{low:.3f}, {high:.3f}]", f"{np.mean(with_key > 2):.1%}",
        f"{np.mean(with_key > 3):.1%}", f"{np.mean(without > 2):.1%}",
        f"{np.mean(np.array(sets) < 1e-3):.0%}",
    )  # fmt: skip


def photographs() -> tuple[np.ndarray, ValueSpec]:
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    images = load_sample_images().images
    out = []
    for k in range(PHOTOGRAPHS):
        image = images[k % len(images)]
        top, left = (int(rng.integers(size - SIDE)) for size in image.shape[:2])
        out.append(image[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))
    spec = ValueSpec("image", (3, SIDE, SIDE), values=Real(-1.0, 1.0))
    return _values_of(np.stack(out), spec), spec


def costs(run: Path, bare: np.ndarray, marked: np.ndarray, console: Console) -> None:
    with tempfile.TemporaryDirectory(prefix="niwaki-") as folder:
        for name, x in (("bare", bare), ("marked", marked)):
            np.savez(Path(folder) / f"{name}.npz", x=x)
        found = niwaki.compare(
            Path(folder) / "bare.npz", Path(folder) / "marked.npz", data=run, progress=False
        )
    for axis, verdict in found["verdict"].items():
        console.print(f"cost in {axis}: {verdict.get('text')}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    n, console = QUICK if asked.quick else N, Console(width=120)
    conditions = list(CONDITIONS)[:: 3 if asked.quick else 1]
    key = Key(bytes(range(32)))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("carrier", "condition", "AUC", "found, 1 %", "found, 0.1 %", "false, 1 %", f"of {SET}"):
        table.add_column(title)
    x, spec = photographs()
    marked = Watermark(key).embed(x, spec)
    error = float(np.mean((marked - x) ** 2))
    for how in conditions:
        table.add_row(*row("photographs", how, marked, x, spec, key))
    console.print(
        f"n = {n} ({PHOTOGRAPHS} photographs of {SIDE}×{SIDE}, PSNR {10 * np.log10(4 / error):.1f} dB)"
    )
    if asked.run is not None:
        for name, what in (("trained model", asked.run), ("bundle", niwaki_bundle(asked.run))):
            bare = niwaki.sample(what, n, seed=0, progress=False)
            made = niwaki.sample(what, n, seed=0, watermark=Watermark(key), progress=False)
            for how in conditions:
                table.add_row(*row(name, how, made.x, bare.x, made.spec, key))
            if name == "bundle":
                costs(asked.run, bare.x, made.x, console)
    console.print(f"{machine()['cpu']}, seed 0")
    console.print(table)


def niwaki_bundle(run: Path) -> Path:
    from niwaki.workflow.run_directory import RunDirectory

    return RunDirectory.open(run).bundle


if __name__ == "__main__":
    main()
