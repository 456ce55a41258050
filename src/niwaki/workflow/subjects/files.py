"""Samples in files, made by any program: a folder of images, or arrays in an `.npz` or `.npy`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from niwaki.core.array_files import read_array_file
from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig
from niwaki.data.config import registered
from niwaki_runtime.specs import place_of

__all__ = ["FileSamples", "is_arrays", "read_arrays", "read_folder"]

_SAMPLES = ("samples", "x", "generated", "before")
_LABELS = ("labels", "y", "class")
_SLACK = 0.25
"""Floats may overshoot the range by this share of its width; viewers and extractors clip them."""


@dataclass(frozen=True)
class FileSamples:
    """Samples as they lay in files.

    x:       `(n, *shape)` float32 in the spec's range
    labels:  `(n,)` int64, or None
    names:   of the files, in the order of the samples; empty for arrays
    broken:  files that were set aside: `file` and `reason`
    seed:    of the noise, where the file tells (`niwaki sample` writes it)
    remarks: what was assumed
    """

    x: np.ndarray
    labels: np.ndarray | None
    names: list[str] = field(default_factory=list)
    broken: list[dict[str, str]] = field(default_factory=list)
    seed: int | None = None
    remarks: list[str] = field(default_factory=list)


def is_arrays(path: str | Path) -> bool:
    return Path(path).suffix.lower() in (".npz", ".npy")


def read_folder(
    path: Path,
    spec: DataSpec,
    *,
    background: int = 255,
    resize: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FileSamples:
    """Images of any mode, read as the data source `folder` reads them; broken ones are set aside by name.

    resize: bring images of another size to the spec's, the shorter side resized and the middle cut out
    Subfolders that are named as the spec's classes (or by their numbers) are the labels.
    Raises CallError for data that are no square images, a folder without images, one in which none can be
    read, and images of another size.
    """
    shape = tuple(spec.shape)
    if spec.axes != "CHW" or shape[1] != shape[2]:
        raise CallError(f"{path} holds images, and the data are {spec.modality} samples of shape {shape}")
    loose = any(p.is_file() and not p.name.startswith(".") for p in path.iterdir())
    settings = {
        "source": "folder",
        "path": str(path),
        "size": shape[1],
        "channels": shape[0],
        "background": background,
        "labels": False if loose or not spec.classes else None,
    }
    config = DataConfig.model_validate(settings)
    try:
        pool = registered("folder").read(config, config.options(), progress)
    except CallError as error:
        raise CallError(str(error).replace("data.path ", "")) from None
    names = list(pool.item_names or [])
    if not resize:
        _same_size(path, names, shape[1])
    levels = pool.x.float() / 255
    labels, remarks = _classes(pool.y, pool.spec.class_names, spec)
    broken = [
        {"file": file, "reason": reason}
        for finding in pool.findings
        if finding.kind == "unreadable"
        for file, _, reason in (item.partition(": ") for item in finding.items)
    ]
    return FileSamples(_stretched(levels.numpy(), spec), labels, names, broken, None, remarks)


def _same_size(path: Path, names: list[str], size: int) -> None:
    from PIL import Image

    other = []
    for name in names:
        with Image.open(path / name) as file:
            if file.size != (size, size):
                other.append((name, file.size))
    if other:
        name, (width, height) = other[0]
        raise CallError(
            f"{len(other)} of {len(names)} images in {path} are not {size}×{size} as the data are "
            f"('{name}' is {width}×{height}); add --resize to bring them to that size"
        )


def _classes(
    y: torch.Tensor | None, names: tuple[str, ...], spec: DataSpec
) -> tuple[np.ndarray | None, list[str]]:
    """The subfolders' labels as the data count them."""
    if y is None:
        return None, []
    places = [place_of(name, spec.class_names) for name in names]
    strange = next(
        (n for n, p in zip(names, places, strict=True) if p is None or not 0 <= p < spec.classes), None
    )
    if strange is not None:
        return None, [f"the subfolder '{strange}' is no class of the data, so the samples have no labels"]
    if len(set(places)) < len(places):
        return None, [
            f"several of the subfolders {', '.join(names)} mean one class, so the samples have no labels"
        ]
    return np.array(places, np.int64)[y.numpy()], []


def read_arrays(path: Path, spec: DataSpec, *, resize: bool = False) -> FileSamples:
    """Samples under `samples` (or `x`, or the first array), labels under `labels` (or `y`, `class`).

    uint8 are grey levels 0 … 255 (or 0 … levels − 1, where none is larger and the data have fewer); floats
    are in the spec's range, or 0 … 1 where none is below 0. Images may have their channels last.
    Raises CallError for Python objects, broken files, other types, shapes and ranges.
    """
    found = read_array_file(path, single="samples")
    name = next((k for k in _SAMPLES if k in found), None)
    if name is None:
        name = next((k for k, v in found.items() if v.ndim > 1), None)
    if name is None:
        raise CallError(f"{path} holds no samples: no array of it has two or more dimensions")
    x, remarks = _shaped(found[name], path, spec, resize)
    x, more = _ranged(x, path, spec)
    labels = next((found[k] for k in _LABELS if k in found and k != name), None)
    if labels is not None and (labels.shape != (len(x),) or labels.dtype.kind not in "iu"):
        raise CallError(
            f"{path}: the labels must be {len(x)} whole numbers, not {labels.shape} {labels.dtype}"
        )
    # Only the first samples of a seed are paired: sample i of two files is of the same noise then.
    seed = found.get("seed") if not np.any(found.get("start", 0)) else None
    return FileSamples(
        x,
        labels if labels is None or not spec.classes else labels.astype(np.int64),
        seed=int(seed) if seed is not None and seed.shape == () and seed.dtype.kind in "iu" else None,
        remarks=remarks + more,
    )


def _shaped(x: np.ndarray, path: Path, spec: DataSpec, resize: bool) -> tuple[np.ndarray, list[str]]:
    """The samples with the spec's shape."""
    shape, given = tuple(spec.shape), x.shape[1:]
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise CallError(f"{path} holds {x.dtype}; save samples as uint8 (0 … 255) or as floats")
    if 0 in x.shape:
        raise CallError(f"{path} holds no samples: its array has the shape {x.shape}")
    if given == shape:
        return x, []
    if spec.axes == "CHW":
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[3] == shape[0] and x.shape[1] != shape[0]:
            x = x.transpose(0, 3, 1, 2)
        if x.shape[1:] == shape:
            return x, [f"{given} is read as {shape}"]
        if resize and x.ndim == 4 and x.shape[1] == shape[0]:
            t = torch.from_numpy(np.ascontiguousarray(x)).float()
            t = F.interpolate(t, shape[1:], mode="bicubic", antialias=True, align_corners=False)
            out = t.round().clamp(0, 255).byte() if x.dtype == np.uint8 else t
            return out.numpy(), [f"{given} was resized to {shape}"]
        if x.ndim == 4 and x.shape[1] == shape[0]:
            raise CallError(
                f"{path} holds samples of shape {given}, the data have {shape}; "
                "add --resize to bring them to that size"
            )
    raise CallError(f"{path} holds samples of shape {given}, the data have {shape}")


def _ranged(x: np.ndarray, path: Path, spec: DataSpec) -> tuple[np.ndarray, list[str]]:
    """float32 in the spec's range."""
    if x.dtype == np.uint8:
        fewer = spec.levels if spec.axes == "CHW" and spec.levels < 256 else 0
        top = fewer - 1 if fewer and int(x.max()) < fewer else 255
        return _stretched(x.astype(np.float32) / top, spec), [f"uint8 is read as grey levels 0 … {top}"]
    x = x.astype(np.float32)
    finite = x[np.isfinite(x)]
    if spec.axes != "CHW" or not finite.size:
        return x, []
    low, high = float(finite.min()), float(finite.max())
    slack = _SLACK * (spec.high - spec.low)
    if spec.low < 0 <= low and high <= 1 + _SLACK:
        return _stretched(x, spec), [f"floats {low:.3g} … {high:.3g} are taken to have the range 0 … 1"]
    if low < spec.low - slack or high > spec.high + slack:
        raise CallError(
            f"{path} holds floats {low:.4g} … {high:.4g}, the data {spec.low:g} … {spec.high:g}; "
            "scale them to that range, or save uint8"
        )
    return x, []


def _stretched(share: np.ndarray, spec: DataSpec) -> np.ndarray:
    """From 0 … 1 to the spec's range."""
    out: Any = share.astype(np.float32) * np.float32(spec.high - spec.low) + np.float32(spec.low)
    return np.asarray(out)
