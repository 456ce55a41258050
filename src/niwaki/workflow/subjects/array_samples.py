"""Samples in an `.npz` or `.npy` of any program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from niwaki.core.array_files import read_array_file
from niwaki.core.contract import CallError, DataSpec
from niwaki.data.reading.layouts import RANGES
from niwaki.data.reading.ranges import SIGNED, UNIT, Bounds, checked_bounds, clipped, fits, read_as
from niwaki.workflow.subjects.files import FileSamples, stretched

__all__ = ["read_arrays"]

_SAMPLES = ("samples", "x", "generated", "before")
_LABELS = ("labels", "y", "class")
SAY = "say their range: np.savez(…, x=x, value_range=[low, high])"


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
        values = stretched((values - bounds[0]) / (bounds[1] - bounds[0]), spec)
    return _resized(values, spec, *own), remarks


def _of_levels(
    x: np.ndarray, path: Path, spec: DataSpec, real: np.ndarray | None, own: Bounds
) -> tuple[np.ndarray, list[str]]:
    """Whole numbers as the levels that they are."""
    low, high = int(x.min()), int(x.max())
    if RANGES.get(spec.modality) == (SIGNED,) and x.dtype.kind == "i":
        full = -int(np.iinfo(x.dtype).min)
        shares = ((x.astype(np.float64) / full + 1) / 2).astype(np.float32)
        return stretched(shares, spec), [f"{x.dtype} is read as sound whose full scale is {full}"]
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
    return stretched(x.astype(np.float32) / top, spec), [remark]


def _tokens(x: np.ndarray, path: Path, spec: DataSpec) -> np.ndarray:
    low, high = x.min(), x.max()
    if not (low >= 0 and high < spec.levels) or (x.dtype.kind == "f" and (x % 1).any()):
        raise CallError(f"{path} holds {x.dtype} {low} … {high}, the data are tokens 0 … {spec.levels - 1}")
    return x.astype(np.float32)
