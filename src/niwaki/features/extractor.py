"""What an extractor is: a network that looks at samples and returns a row of numbers for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec, NiwakiError
from niwaki.core.store import hash_bytes, hash_json, hash_tensors, keep_tensors, read_tensors
from niwaki.data import Dataset

__all__ = ["Array", "Extractor", "NetworkExtractor", "Progress", "pick_device"]

Array = np.ndarray | Tensor
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, in all)."""


@runtime_checkable
class Extractor(Protocol):
    """Samples in, features out; the same samples give the same features.

    name:        as in `build`
    fingerprint: SHA-256 over all that decides the features: weights, architecture, preprocessing
    dim:         number of features
    """

    name: str
    fingerprint: str
    dim: int

    def __call__(self, x: Array, batch: int = 256) -> np.ndarray:
        """Samples `(n, *shape)` float32 in the spec's range → features `(n, dim)` float32."""
        ...


class NetworkExtractor:
    """An extractor made of torch modules, with its features of whole splits kept on disk.

    parts: column ranges of the members of an ensemble; a single range otherwise
    """

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        network: nn.Module,
        *,
        dim: int,
        settings: dict[str, Any],
        cache: Path | None = None,
        device: str = "auto",
        parts: tuple[slice, ...] | None = None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.dim = dim
        self.parts = parts or (slice(0, dim),)
        self.device = pick_device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.settings = settings
        record = {"name": name, "settings": settings, "weights": hash_tensors(network.state_dict())}
        self.fingerprint = hash_json({**record, "range": (spec.low, spec.high), "shape": spec.shape})
        self._cache = cache
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, x: Array, batch: int = 256) -> np.ndarray:
        """Features `(n, dim)` float32 of samples `(n, *shape)`; images are clipped to the range, as a viewer
        would.

        Raises CallError for another shape and for NaN.
        """
        return self._run(self.tensor_features, x, batch)

    def tensor_features(self, x: Tensor) -> Tensor:
        """The same of one batch that is on the device and within the range; gradients go through it."""
        found: Tensor = self.network(x)
        return found

    def of_split(self, dataset: Dataset, split: str, index: np.ndarray | None = None) -> np.ndarray:
        """Features of a split, or of its samples at `index`, from memory or the cache; read-only."""
        part = None if index is None else hash_bytes(np.asarray(index, np.int64).tobytes())
        key = hash_json([self.fingerprint, dataset.fingerprint, split, part])[:24]
        if key in self._kept:
            return self._kept[key]
        path = self._cache / "features" / f"{self.name}-{split}-{key}.safetensors" if self._cache else None
        found = None
        if path is not None and os.path.exists(path):
            try:
                found = read_tensors(path)["features"].numpy()
            except (NiwakiError, KeyError):  # a damaged cache is made again
                found = None
        if found is None:
            where = None if index is None else torch.from_numpy(np.asarray(index, np.int64))
            found = self(dataset.split(split).values(where))
            if path is not None:
                keep_tensors(path, {"features": torch.from_numpy(found)})
        found.setflags(write=False)
        self._kept[key] = found
        return found

    @torch.inference_mode()
    def _run(self, network: Callable[[Tensor], Tensor], x: Array, batch: int) -> np.ndarray:
        tensor = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x, dtype=np.float32))
        if tuple(tensor.shape[1:]) != tuple(self.spec.shape):
            raise CallError(
                f"the samples have the shape {tuple(tensor.shape[1:])}, the data {tuple(self.spec.shape)}"
            )
        rows, kind = [], torch.int64 if self.spec.is_tokens else torch.float32
        for at in range(0, len(tensor), batch):
            part = tensor[at : at + batch].to(self.device, kind)
            if not bool(torch.isfinite(part).all()):
                raise CallError(f"there is NaN or infinity in the samples {at} … {at + len(part) - 1}")
            if self.spec.axes == "CHW":  # what a picture file could not hold no viewer sees
                part = part.clamp(self.spec.low, self.spec.high)
            rows.append(network(part).float().cpu())
        if not rows:
            raise CallError("there are no samples to take features of")
        return torch.cat(rows).numpy()


def pick_device(device: str) -> torch.device:
    """`auto` is the accelerator where there is one."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
