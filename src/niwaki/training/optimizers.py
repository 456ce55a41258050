"""Optimizers by name, and their state as named tensors.

An optimizer is a function from parameter groups, a learning rate and betas to a torch optimizer; it is
registered by a decorator and then a valid `train.optimizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["build_optimizer", "optimizer", "optimizer_names", "optimizer_tensors", "restore_optimizer"]

Groups = list[dict[str, Any]]
Maker = Callable[[Groups, float, tuple[float, float]], Optimizer]

_OPTIMIZERS: dict[str, Maker] = {}


def optimizer(name: str) -> Callable[[Maker], Maker]:
    """Decorator: enter a maker `(groups, lr, betas) → Optimizer` under a name."""

    def enter(maker: Maker) -> Maker:
        _OPTIMIZERS[name] = maker
        return maker

    return enter


def _fastest(cls: type[Optimizer], groups: Groups, **options: Any) -> Optimizer:
    """The fused kernel (one pass over all parameters) where the device has one, else the foreach one; same
    formulas."""
    try:
        return cls(groups, fused=True, **options)  # type: ignore[call-arg]
    except RuntimeError:  # torch refuses `fused` for devices or dtypes without such a kernel
        return cls(groups, foreach=True, **options)  # type: ignore[call-arg]


@optimizer("adam")
def _adam(groups: Groups, lr: float, betas: tuple[float, float]) -> Optimizer:
    """Kingma & Ba 2015, arXiv:1412.6980."""
    return _fastest(torch.optim.Adam, groups, lr=lr, betas=betas)


@optimizer("adamw")
def _adamw(groups: Groups, lr: float, betas: tuple[float, float]) -> Optimizer:
    """Decoupled weight decay: Loshchilov & Hutter 2019, arXiv:1711.05101."""
    return _fastest(torch.optim.AdamW, groups, lr=lr, betas=betas)


@optimizer("sgd")
def _sgd(groups: Groups, lr: float, betas: tuple[float, float]) -> Optimizer:
    return _fastest(torch.optim.SGD, groups, lr=lr, momentum=betas[0])


def optimizer_names() -> list[str]:
    return sorted(_OPTIMIZERS)


def build_optimizer(
    name: str,
    parameters: Mapping[str, nn.Parameter],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> Optimizer:
    """An optimizer over named parameters. Raises CallError for an unknown name.

    Only parameters with two dimensions or more are decayed: pulling a bias or a norm's scale to zero
    regularizes nothing.
    """
    if name not in _OPTIMIZERS:
        raise CallError(f"there is no optimizer '{name}'; {nearest(name, _OPTIMIZERS)}")
    decayed = [p for p in parameters.values() if p.dim() >= 2]
    plain = [p for p in parameters.values() if p.dim() < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, weight_decay), (plain, 0.0))
        if params
    ]
    return _OPTIMIZERS[name](groups, lr, betas)


def optimizer_tensors(opt: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state as `parameter/key → tensor`."""
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in opt.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{name}/{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(
    opt: Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `optimizer_tensors`. Raises NiwakiError for a parameter that the optimizer does not
    train.

    Moments take the strides of their parameter: the fused kernels walk over both in memory order.
    """
    opt.state.clear()
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        if name not in parameters:
            raise NiwakiError(
                f"the checkpoint has optimizer state for '{name}', which this stage does not train"
            )
        parameter = parameters[name]
        if value.shape == parameter.shape:
            state = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            state = value.to(parameter.device, copy=True)
        opt.state[parameter][key] = state
