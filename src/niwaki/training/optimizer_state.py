"""The state of an optimizer as named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from niwaki_runtime.errors import NiwakiError

__all__ = ["optimizer_tensors", "restore_optimizer"]

_COUNTS = {"step", "since", "weight_sum"}
"""Numbers that an optimizer counts with in Python: they stay on the CPU."""


def optimizer_tensors(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state as `parameter/key → tensor`."""
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{name}/{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`. Raises NiwakiError for a parameter that the optimizer does not
    train.

    Moments take the strides of their parameter: the fused kernels walk over both in memory order. Step
    counters stay on the CPU unless the kernel reads them on the device, as torch itself keeps them.
    """
    on_device = {
        p: bool(group.get("fused") or group.get("capturable"))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    optimizer.state.clear()
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        if name not in parameters:
            raise NiwakiError(
                f"the checkpoint has optimizer state for '{name}', which this stage does not train"
            )
        parameter = parameters[name]
        if key in _COUNTS and not on_device[parameter]:
            state = value.to("cpu", copy=True)
        elif value.shape == parameter.shape:
            state = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            state = value.to(parameter.device, copy=True)
        optimizer.state[parameter][key] = state
