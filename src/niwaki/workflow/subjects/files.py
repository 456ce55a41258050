"""Samples in files, made by any program; a folder of images (arrays: `array_samples`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig
from niwaki.data.audit import SAID
from niwaki.data.config import registered
from niwaki.data.reading.picture_sets import PICTURES
from niwaki.data.reading.walking import HIDDEN, ending
from niwaki_runtime.specs import place_of

__all__ = ["FileSamples", "is_arrays", "read_folder", "stretched"]


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
    return FileSamples(stretched(levels.numpy(), spec), labels, names, broken, None, remarks)


def _loose(path: Path) -> bool:
    """Whether images lie beside the subfolders; other files there say nothing of classes."""
    return any(ending(p.name) in PICTURES and not p.name.startswith(HIDDEN) for p in path.iterdir())


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


def stretched(share: np.ndarray, spec: DataSpec) -> np.ndarray:
    """From 0 … 1 to the spec's range."""
    out: Any = share.astype(np.float32) * np.float32(spec.high - spec.low) + np.float32(spec.low)
    return np.asarray(out)
