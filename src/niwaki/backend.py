"""The samplers' backend for torch tensors: the workshop's half of what `NumpyBackend` is on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from niwaki_runtime import noise
from torch import Tensor

__all__ = ["TorchBackend"]


class TorchBackend:
    """Arrays are tensors on one device; the noise is the same as everywhere."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def namespace(self, array: Tensor) -> Any:
        from array_api_compat import torch as xp

        return xp

    def asarray(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def numpy(self, array: Tensor) -> np.ndarray:
        return array.detach().float().cpu().numpy() if array.is_floating_point() else array.cpu().numpy()

    def normal(
        self, seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str, draw: int
    ) -> Tensor:
        return self.asarray(noise.normal(seed, start, n, shape, stream=stream, draw=draw))
