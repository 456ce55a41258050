"""Sample: from a run, a model or a bundle to arrays and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from niwaki.core.contract import CallError, GenerativeModel, ValueSpec
from niwaki.core.store import write_bytes
from niwaki.training.hardware import choose_device
from niwaki.workflow.load import load
from niwaki.workflow.pictures import grid_png
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki_runtime.specs import resolve

__all__ = ["Samples", "sample"]


@dataclass(frozen=True)
class Samples:
    """What was sampled.

    x:         `(n, *spec.shape)` float32 in [spec.low, spec.high] (integers where samples are tokens)
    condition: what was asked of each, one row per sample, by condition name
    start:     index of the first one in the stream of `seed`
    """

    x: np.ndarray
    condition: dict[str, np.ndarray]
    seed: int
    spec: ValueSpec
    start: int = 0

    def write(self, path: str | Path) -> Path:
        """A picture (`.png`) or the arrays (`.npz`, `.npy`). Raises CallError for another ending."""
        path = Path(path)
        if path.suffix == ".png":
            data = grid_png(self.x, self.spec)
        elif path.suffix == ".npy":
            data = _bytes(np.save, self.x)
        elif path.suffix == ".npz":
            source = {"seed": np.int64(self.seed), "start": np.int64(self.start)}
            data = _bytes(np.savez_compressed, x=self.x, **source, **self.condition)
        else:
            raise CallError(f"samples are written as .png, .npz or .npy, not as '{path.name}'")
        write_bytes(path, data)
        return path


def _bytes(save: Any, *arrays: np.ndarray, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def sample(
    what: str | Path | GenerativeModel | Any,
    n: int = 60,
    *,
    seed: int = 0,
    condition: Any = None,
    start: int = 0,
    batch: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    out: str | Path | Sequence[str | Path] = (),
    reporter: Reporter | None = None,
    **overrides: Any,
) -> Samples:
    """Samples start … start+n−1 of `seed`, from a run's trained model, a model, or a bundle on `engine`.

    condition: a class (number or name), a list of names to take in turn, an array with one row per sample,
               or a mapping of condition names to either; None asks for all classes in turn
    device:    of a torch model: `auto`, `cpu`, `cuda` …; one that is passed in stays where it is
    out:       files to write: `.png`, `.npz`, `.npy`
    overrides: fields of the sampler (`steps=10`, `guidance=2.0`)
    Raises CallError for a wrong path, condition, option or ending.
    """
    if n < 1:
        raise CallError(f"-n must be at least 1, not {n}")
    places = [out] if isinstance(out, str | Path) else list(out)
    for place in places:
        if Path(place).suffix not in (".png", ".npz", ".npy"):
            raise CallError(f"samples are written as .png, .npz or .npy, not as '{place}'")
    reporter = reporter or Quiet()
    source = load(what, engine=engine) if isinstance(what, str | Path) else what
    if isinstance(what, str | Path) and isinstance(source, GenerativeModel):
        source.to(choose_device(device))
    asked = condition
    if isinstance(condition, list | tuple) and all(isinstance(c, str) for c in condition):
        asked = [condition[i % len(condition)] for i in range(n)]  # several classes by name: in turn
    reporter.stage("sample", f"{n} of seed {seed}")
    keywords: dict[str, Any] = {} if batch is None else {"batch": batch}
    x = source.sample(
        n, seed=seed, condition=asked, start=start, progress=counter(reporter), **keywords, **overrides
    )
    if isinstance(x, Tensor):
        x = x.float().cpu().numpy() if x.is_floating_point() else x.cpu().numpy()
    samples = Samples(
        np.asarray(x),
        resolve(source.conditions, asked, start, n),
        seed,
        source.program("sample").output,
        start,
    )
    for place in places:
        samples.write(place)
    return samples
