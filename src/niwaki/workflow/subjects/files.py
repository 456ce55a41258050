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
from niwaki.data.audit import SAID
from niwaki.data.config import registered
from niwaki.data.reading.layouts import RANGES
from niwaki.data.reading.ranges import SIGNED, UNIT, Bounds, checked_bounds, clipped, fits, read_as
from niwaki.data.reading.walking import HIDDEN, ending
from niwaki.data.sources.folder import EXTENSIONS
from niwaki_runtime.specs import place_of

__all__ = ["FileSamples", "is_arrays", "read_arrays", "read_folder"]

_SAMPLES = ("samples", "x", "generated", "before")
_LABELS = ("labels", "y", "class")
SAY = "say their range: np.savez(…, x=x, value_range=[low, high])"


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
    settings = {
        "source": "folder",
        "path": str(path),
        "size": shape[1],
        "channels": shape[0],
        "background": background,
        "labels": None if spec.classes and not _loose(path) else False,
        "splits": False,
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
    if spec.classes and config.labels is False and any("/" in name for name in names):
        remarks.append("images lie beside the subfolders, so the samples have no labels")
    remarks += [f.text for f in pool.findings if f.kind in SAID and f.kind != "shapes"]
    broken = [
        {"file": file, "reason": reason}
        for finding in pool.findings
        if finding.kind == "unreadable"
        for file, _, reason in (item.partition(": ") for item in finding.items)
    ]
    return FileSamples(_stretched(levels.numpy(), spec), labels, names, broken, None, remarks)


def _loose(path: Path) -> bool:
    """Whether images lie beside the subfolders; other files there say nothing of classes."""
    return any(ending(p.name) in EXTENSIONS and not p.name.startswith(HIDDEN) for p in path.iterdir())


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


def read_arrays(
    path: Path,
    spec: DataSpec,
    *,
    real: np.ndarray | None = None,
    units: Bounds | None = None,
    resize: bool = False,
) -> FileSamples:
    """Samples under `samples` (or `x`, or the first array), labels under `labels` (or `y`, `class`).

    Whole numbers 0 … 255 are grey levels (0 … levels − 1, where none is larger and the data have fewer);
    floats have the range that the file says in `value_range`, or the spec's, or 0 … 1, or that of the data's
    own files: which one is decided before anything is resized, must agree with the real values, and is said.
    What lies outside by less than the slack is clipped and counted. Images may have their channels last.

    real:  values of the data, in the spec's range
    units: the range that the data's own files were said to have (`data.value_range`)
    Raises CallError for Python objects, broken files, other types, shapes and ranges, and for a range that is
    not plain or contradicts the data.
    """
    found = read_array_file(path, single="samples")
    name = next((k for k in _SAMPLES if k in found), None)
    remarks = []
    if name is None:
        names = [k for k, v in found.items() if v.ndim > 1]
        if not names:
            raise CallError(f"{path} holds no samples: no array of it has two or more dimensions")
        name, *others = names
        if others:
            remarks.append(f"the array '{name}' is read as the samples, {', '.join(others)} are not read")
    x, more = _shaped(found[name], path, spec, resize)
    x, how = _ranged(x, path, spec, _stated(found.get("value_range"), path), real, units)
    remarks += more + how
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
        remarks=remarks,
    )


def _shaped(x: np.ndarray, path: Path, spec: DataSpec, resize: bool) -> tuple[np.ndarray, list[str]]:
    """The samples with the spec's axes in the spec's order; of another size where they are to be resized."""
    shape, given = tuple(spec.shape), x.shape[1:]
    if x.dtype.kind not in "buif":
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
            return x, [f"{given} was resized to {shape}"]
        if x.ndim == 4 and x.shape[1] == shape[0]:
            raise CallError(
                f"{path} holds samples of shape {given}, the data have {shape}; "
                "add --resize to bring them to that size"
            )
    raise CallError(f"{path} holds samples of shape {given}, the data have {shape}")


def _resized(x: np.ndarray, spec: DataSpec, low: float, high: float) -> np.ndarray:
    """Images of the spec's size. A cubic rings: what it makes of values in low … high is clipped to them."""
    if x.shape[1:] == tuple(spec.shape):
        return x
    t = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    t = F.interpolate(t, tuple(spec.shape[1:]), mode="bicubic", antialias=True, align_corners=False)
    return np.asarray(t.clamp(low, high).numpy())


def _stated(given: np.ndarray | None, path: Path) -> Bounds | None:
    if given is None:
        return None
    if given.shape != (2,) or given.dtype.kind not in "iuf":
        raise CallError(
            f"{path}: value_range must be the lowest and the highest value, not {given.shape} {given.dtype}"
        )
    return checked_bounds(given.tolist(), f"{path}: value_range")


def _ranged(
    x: np.ndarray,
    path: Path,
    spec: DataSpec,
    stated: Bounds | None,
    real: np.ndarray | None,
    units: Bounds | None,
) -> tuple[np.ndarray, list[str]]:
    """float32 of the spec's shape and in its range, and what was assumed. Tokens, and what has no range by
    its nature, are kept as they are."""
    own: Bounds = (spec.low, spec.high)
    if spec.is_tokens:
        return _tokens(x, path, spec), []
    if x.dtype.kind in "biu" and stated is None:
        if spec.levels or spec.modality in RANGES:
            return _of_levels(x, path, spec, real, own)
        return x.astype(np.float32), [f"{x.dtype} is read as amounts"]
    finite = x[np.isfinite(x)]
    if spec.modality not in RANGES or not np.isfinite(own).all() or not finite.size:
        return x.astype(np.float32), []
    low, high = float(finite.min()), float(finite.max())
    if stated is None:
        possible = [own, *(b for b in RANGES[spec.modality] if b == UNIT)]
        possible += [(float(units[0]), float(units[1]))] if units else []
        bounds = read_as(x, possible, real, own, str(path), SAY)
        remarks = [f"floats {low:.3g} … {high:.3g} are taken to have the range {bounds[0]:g} … {bounds[1]:g}"]
    else:
        bounds, remarks = stated, []
        if not fits(x, bounds):
            raise CallError(f"{path} holds values {low:.4g} … {high:.4g}, outside its value_range {bounds}")
    inside = clipped(x, bounds)
    if inside.count:
        remarks.append(f"{inside.text}; the range is {bounds[0]:g} … {bounds[1]:g}")
    values = inside.values
    if bounds != own:
        values = _stretched((values - bounds[0]) / (bounds[1] - bounds[0]), spec)
    return _resized(values, spec, *own), remarks


def _of_levels(
    x: np.ndarray, path: Path, spec: DataSpec, real: np.ndarray | None, own: Bounds
) -> tuple[np.ndarray, list[str]]:
    """Whole numbers as the levels that they are."""
    low, high = int(x.min()), int(x.max())
    if RANGES.get(spec.modality) == (SIGNED,) and x.dtype.kind == "i":
        full = -int(np.iinfo(x.dtype).min)
        shares = ((x.astype(np.float64) / full + 1) / 2).astype(np.float32)
        return _stretched(shares, spec), [f"{x.dtype} is read as sound whose full scale is {full}"]
    if low < 0 or high > 255:
        raise CallError(f"{path} holds {x.dtype} {low} … {high}, which are no grey levels 0 … 255; {SAY}")
    tops = [1] if x.dtype.kind == "b" else [255]
    if tops == [255] and 0 < spec.levels < 256 and high < spec.levels:
        tops = [spec.levels - 1, 255]
    if len(tops) > 1 and real is not None:
        found = read_as(
            x.astype(np.float32), [(0.0, float(top)) for top in tops], real, own, str(path),
            "scale its levels to 0 … 255, or save floats",
        )  # fmt: skip
        tops = [int(found[1])]
    top = tops[0]
    remark = f"{x.dtype} is read as grey levels 0 … {top}"
    if x.shape[1:] != tuple(spec.shape):
        x = _resized(x, spec, 0.0, float(top)).round()
    return _stretched(x.astype(np.float32) / top, spec), [remark]


def _tokens(x: np.ndarray, path: Path, spec: DataSpec) -> np.ndarray:
    low, high = x.min(), x.max()
    if not (low >= 0 and high < spec.levels) or (x.dtype.kind == "f" and (x % 1).any()):
        raise CallError(f"{path} holds {x.dtype} {low} … {high}, the data are tokens 0 … {spec.levels - 1}")
    return x.astype(np.float32)


def _stretched(share: np.ndarray, spec: DataSpec) -> np.ndarray:
    """From 0 … 1 to the spec's range."""
    out: Any = share.astype(np.float32) * np.float32(spec.high - spec.low) + np.float32(spec.low)
    return np.asarray(out)
