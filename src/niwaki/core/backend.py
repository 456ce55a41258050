"""The samplers' backend for torch tensors: the workshop's half of what `NumpyBackend` is on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core import device_noise
from niwaki_runtime import noise

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
        if self.device.type == "cpu":
            return self.asarray(noise.normal(seed, start, n, shape, stream=stream, draw=draw))
        # Made where it is used: no copy and no wait for the host.
        return device_noise.normal(seed, start, n, shape, stream=stream, draw=draw, device=self.device)
