"""Samples in numpy's files: `.npy` (samples alone) or `.npz` (samples and labels). No pickle is ever read."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.array_files import read_array_file
from niwaki.core.contract import CallError, DataSpec, Tokens, nearest
from niwaki.core.paths import expanded
from niwaki.data.audit import ASSUMED, CLIPPED, LEFT_OUT, Finding, Level, shortened
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.layouts import RANGES, Layout, Modality, arranged
from niwaki.data.reading.ranges import FEW, SIGNED, Bounds, checked_bounds, clipped, fits, guessed

__all__ = ["ArraysOptions", "arrays"]

MOST_CLASSES = 10_000


class ArraysOptions(Options):
    """Settings of `arrays`.

    path:        the file
    x, y:        names of the samples and of the labels in an npz
    modality:    what the samples are, if their shape does not tell: `vector` (n, d), `series` or `audio`
                 (n, T) or (n, C, T), `image` (n, H, W) or (n, C, H, W), `video` (n, T, C, H, W), `text`
                 (n, T) tokens
    layout:      which axis is which, if the shape does not tell: N samples, C channels, T time, H height,
                 W width
    levels:      grey levels of uint8 samples
    vocabulary:  how many tokens there are; one more than the largest in the file, unless said
    value_range: lowest and highest value of float samples, which the model will see as −1 and 1; without it
                 vectors and series are kept as they are, and have no bounds
    rate:        steps of time per second
    """

    path: str
    x: str = "x"
    y: str = "y"
    modality: Modality | None = None
    layout: Layout | None = None
    levels: int = Field(default=256, ge=2, le=256)
    vocabulary: int | None = Field(default=None, ge=2)
    value_range: tuple[float, float] | None = None
    rate: float | None = Field(default=None, gt=0)


def _read(options: ArraysOptions) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The arrays of the file by name, and which others it has. Raises CallError in one sentence for whatever
    is wrong with it."""
    others: list[str] = []
    path = expanded(options.path)
    if not path.is_file():
        raise CallError(
            f"data.path '{options.path}' " + ("is not a file" if path.exists() else "does not exist")
        )

    def wanted(names: Collection[str]) -> list[str]:
        if options.x not in names:
            hint = nearest(options.x, names) if names else "it is empty"
            raise CallError(f"'{options.path}' holds no array '{options.x}' (data.x); {hint}")
        others[:] = sorted(set(names) - {options.x, options.y})
        return [name for name in (options.x, options.y) if name in names]

    found = read_array_file(path, wanted=wanted, single=options.x, called=f"'{options.path}'")
    if not others:
        return found, []
    text = f"{len(others)} further arrays of '{path.name}' were not read: {', '.join(shortened(others))}"
    return found, [Finding("note", LEFT_OUT, text, shortened(others))]


def _integers(x: np.ndarray, options: ArraysOptions) -> Tensor:
    if options.value_range:
        raise CallError("data.value_range is for float samples; for uint8 set data.levels")
    if int(x.max()) >= options.levels:
        raise CallError(
            f"'{options.path}' holds the value {int(x.max())}, outside 0 … {options.levels - 1}, "
            f"which data.levels={options.levels} allows"
        )
    return torch.from_numpy(np.ascontiguousarray(x))


def _tokens(x: np.ndarray, options: ArraysOptions) -> tuple[Tensor, int]:
    """Tokens, and how many there are. Raises CallError for amounts, and for tokens outside the vocabulary."""
    if x.dtype.kind not in "iu":
        raise CallError(f"'{options.path}' holds {x.dtype}; tokens are whole numbers from 0 on")
    low, high = int(x.min()), int(x.max())
    known = options.vocabulary or max(high + 1, 2)
    if low < 0 or high >= known:
        raise CallError(
            f"'{options.path}' holds tokens {low} … {high}, outside 0 … {known - 1}"
            + (f", which data.vocabulary={known} allows" if options.vocabulary else "")
        )
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.int64)), known


def _plain(x: np.ndarray, kind: Modality, options: ArraysOptions) -> tuple[np.ndarray, list[Finding]]:
    """Whole numbers of any width, and bools, as what amounts are kept as: bytes where samples have a range
    and these fit, floats otherwise; those of sound are shares of what their type can hold."""
    if x.dtype == np.uint8 or x.dtype.kind not in "biu":
        return x, []
    low, high = int(x.min()), int(x.max())
    if RANGES.get(kind) == (SIGNED,) and x.dtype.kind == "i" and options.value_range is None:
        full = -int(np.iinfo(x.dtype).min)
        text = f"{x.dtype} {low} … {high} is read as sound whose full scale is {full}"
        return x.astype(np.float64) / full, [_assumed(text)]
    if kind in RANGES and low >= 0 and high <= 255 and options.value_range is None:
        text = f"{x.dtype} {low} … {high} is read as grey levels 0 … {options.levels - 1}"
        return x.astype(np.uint8), [_assumed(f"{text}; data.levels says how many there are")]
    text = f"{x.dtype} {low} … {high} is read as amounts"
    return x.astype(np.float32 if x.itemsize < 4 else np.float64), [Finding("note", "value range", text)]


def _assumed(text: str) -> Finding:
    return Finding("note", ASSUMED, text)


def _floats(
    x: np.ndarray, kind: Modality, options: ArraysOptions
) -> tuple[Tensor, float, float, list[Finding]]:
    """float32 values with their low and high; those of a known range are stretched to −1 … 1, all others have
    no bounds.

    kind: decides whether such samples have a range by their nature, as pictures do
    """
    if not np.isfinite(x).any():
        raise CallError(f"'{options.path}' holds no finite value")
    low, high = float(x[np.isfinite(x)].min()), float(x[np.isfinite(x)].max())
    if options.value_range is None and kind not in RANGES:
        text = f"values are kept as they are, {low:.6g} … {high:.6g}; data.value_range stretches to −1 … 1"
        # what these samples happen to reach is no bound of what such samples can be
        return _float32(x), -math.inf, math.inf, [Finding("note", "value range", text)]
    bounds, findings = _bounds(x, kind, options, low, high)
    inside = clipped(x, bounds)
    if inside.count:
        level: Level = "note" if inside.share <= FEW else "warning"
        text = f"{inside.text}; the range is {bounds[0]:g} … {bounds[1]:g}"
        findings.append(Finding(level, CLIPPED, text))
    values = torch.from_numpy(inside.values)
    if bounds != SIGNED:
        values = (values - bounds[0]) / (bounds[1] - bounds[0]) * 2 - 1
    return values, -1.0, 1.0, findings


def _bounds(
    x: np.ndarray, kind: Modality, options: ArraysOptions, low: float, high: float
) -> tuple[Bounds, list[Finding]]:
    """The range that was said, or the one that is plainly theirs. Raises CallError where neither holds."""
    if options.value_range is not None:
        bounds = checked_bounds(options.value_range, "data.value_range")
        if not fits(x, bounds):
            raise CallError(
                f"'{options.path}' holds values {low:.6g} … {high:.6g}, outside data.value_range {bounds}"
            )
        return bounds, []
    found = guessed(x, RANGES[kind])
    if found is None:
        held = f"'{options.path}' holds floats {low:.6g} … {high:.6g}"
        if len(RANGES[kind]) > 1 and fits(x, SIGNED):
            held += ", which may have the range 0 … 1 or −1 … 1"
        raise CallError(f"{held}; set data.value_range to their range")
    text = f"floats {low:.6g} … {high:.6g} are taken to have the range {found[0]:g} … {found[1]:g}"
    return found, [_assumed(f"{text}; set data.value_range to say otherwise")]


def _float32(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def _labels(y: np.ndarray, n: int, options: ArraysOptions) -> tuple[Tensor, tuple[str, ...], int]:
    """Labels as integers, with the names and the number of the classes. Words are numbered in their order."""
    if y.shape != (n,):
        raise CallError(f"'{options.path}': {n} samples need labels of the shape ({n},), not {y.shape}")
    if y.dtype.kind in "US":
        try:
            named = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
        except UnicodeDecodeError:
            raise CallError(f"'{options.path}': labels that are bytes must be UTF-8 text") from None
        words, numbers = np.unique(named, return_inverse=True)
        return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, words)), len(words)
    if y.dtype.kind not in "iub" and not (y.dtype.kind == "f" and np.array_equal(y, np.floor(y))):
        raise CallError(f"'{options.path}': labels must be whole numbers or words, not {y.dtype}")
    numbers = y.astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= MOST_CLASSES:
        raise CallError(
            f"'{options.path}': labels must lie in 0 … {MOST_CLASSES - 1}, "
            f"not {numbers.min()} … {numbers.max()}"
        )
    return torch.from_numpy(numbers), (), int(numbers.max()) + 1


@register("arrays", ArraysOptions)
def arrays(config: DataConfig, options: ArraysOptions, progress: Progress | None) -> Pool:
    """Vectors `(n, d)`, series `(n, C, T)`, images `(n, C, H, W)`, videos `(n, T, C, H, W)` or tokens
    `(n, T)`, whole numbers or floats, with their labels where the file has some. How shapes are read:
    `niwaki.data.reading.layouts`.

    Raises CallError for a missing or broken file, Python objects, other types than numbers, values outside
    the stated range, an undecidable layout, or labels that do not fit.
    """
    found, left_out = _read(options)
    x, modality, findings = arranged(found[options.x], options.path, options.modality, options.layout)
    findings = [*left_out, *findings]
    spec: dict[str, Any] = {}
    if modality != "text":
        x, more = _plain(x, modality, options)
        findings += more
    if modality == "text":
        values, known = _tokens(x, options)
        spec["levels"] = known
    elif x.dtype == np.uint8:
        values = _integers(x, options)
        spec["levels"] = options.levels
        if modality not in RANGES:
            findings.append(_assumed(f"uint8 is read as levels 0 … {options.levels - 1}, not as amounts"))
    elif x.dtype.kind == "f":
        values, spec["low"], spec["high"], more = _floats(x, modality, options)
        findings += more
    else:
        raise CallError(f"'{options.path}' holds {x.dtype}; save samples as whole numbers or as float32")
    y = None
    if options.y in found and options.y != options.x:
        y, spec["class_names"], spec["classes"] = _labels(found[options.y], len(x), options)
    kind = DataSpec.of(modality=modality, shape=tuple(values.shape[1:]), **spec)
    if modality == "text":  # tokens of no tokenizer that is known here
        kind = replace(kind, columns={**kind.columns, "x": replace(kind.x, values=Tokens(spec["levels"]))})
    if options.rate is not None:
        kind = replace(kind, columns={**kind.columns, "x": replace(kind.x, rate=options.rate)})
    return Pool(Path(options.path).stem, kind, values, y, findings=findings)
