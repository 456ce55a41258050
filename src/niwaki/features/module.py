"""Your own network as an extractor: any `nn.Module`, its output or a layer inside it."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.features.extractor import pick_device
from niwaki.features.preprocess import Preprocess
from niwaki.features.pretrained import Prepared, Pretrained
from niwaki.features.weights import Loaded

__all__ = ["module_extractor"]

_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda t: t.flatten(2).mean(2) if t.ndim > 2 else t.flatten(1),
    "tokens": lambda t: t.mean(1),
    "first": lambda t: t[:, 0],
    "flatten": lambda t: t.flatten(1),
}


class Tapped(nn.Module):
    """A module that returns what a layer inside it made of the samples, pooled to (n, d)."""

    def __init__(self, module: nn.Module, layer: str | None, pool: str) -> None:
        super().__init__()
        self.module = module
        self.layer = layer
        self.pool = pool
        self._seen: Any = None
        if layer is not None:
            module.get_submodule(layer).register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, given: Any, made: Any) -> None:
        self._seen = made

    def forward(self, x: Tensor) -> Tensor:
        self._seen = None
        found = self.module(x)
        place = "the module"
        if self.layer is not None:
            found, self._seen, place = self._seen, None, f"the layer '{self.layer}'"
            if found is None:
                raise CallError(f"the module has {place}, but does not call it")
        if isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, Tensor):
            raise CallError(f"{place} returns {type(found).__name__}; name a layer that returns a tensor")
        if found.ndim == 0 or len(found) != len(x):
            raise CallError(
                f"{place} returns the shape {tuple(found.shape)} for {len(x)} samples: not one row each"
            )
        if self.pool in ("tokens", "first") and found.ndim != 3:
            raise CallError(
                f"the pool '{self.pool}' is for tokens (n, t, d), and {place} returns {tuple(found.shape)}"
            )
        return _POOLS[self.pool](found)


def module_extractor(
    module: nn.Module,
    spec: DataSpec,
    *,
    layer: str | None = None,
    pool: str = "mean",
    preprocess: Preprocess | None = None,
    name: str = "module",
    cache: Path | None = None,
    device: str = "auto",
) -> Pretrained:
    """An extractor of `module`: of a copy in evaluation mode, so that yours is neither changed nor followed.

    module:     called with samples (n, *spec.shape) float32, or with what `preprocess` makes of them
    layer:      dotted name of a submodule whose output are the features (its last call, where there are
                several; the first of a tuple); None is the module's own output
    pool:       `mean` over all axes after the channels (n, c, …); `tokens`: mean over the tokens (n, t, d);
                `first`: the first of them; `flatten`: everything
    preprocess: None gives the samples in the range of the data
    name:       letters, digits, `_`, `.` and `-`. Part of the fingerprint, beside weights, the layers' types
                and preprocessing; code is not: name two modules apart that differ in their code alone
    Raises CallError for an unknown layer or pool, one that is not called, a module that cannot take such
    samples, an output that is not one row per sample, and preprocessing that does not fit the data.
    """
    if pool not in _POOLS:
        raise CallError(f"there is no pool '{pool}'; {nearest(pool, _POOLS)}")
    if not re.fullmatch(r"[\w.-]+", name):
        raise CallError(f"an extractor's name has letters, digits, '_', '.' and '-', unlike '{name}'")
    layers = [n for n, _ in module.named_modules() if n]
    if layer is not None and layer not in layers:
        raise CallError(f"the module has no layer '{layer}'; {nearest(layer, layers)}")
    if preprocess is not None:
        preprocess.check(spec)
    settings = {"version": 1, "layer": layer, "pool": pool, "form": _form(module)}
    tapped = Tapped(copy.deepcopy(module), layer, pool)
    dim = _width(Loaded(tapped, 0, preprocess), spec, device)
    loaded = Loaded(tapped, dim, preprocess, settings)
    return Pretrained(name, spec, loaded, kind=name, cache=cache, device=device, most=None)


@torch.inference_mode()
def _width(loaded: Loaded, spec: DataSpec, device: str) -> int:
    """Features of one sample, found by asking."""
    middle = (spec.low + spec.high) / 2 if math.isfinite(spec.high - spec.low) else 0.0
    probe = torch.full((2, *spec.shape), middle, device=pick_device(device))
    try:
        found = Prepared(loaded, spec).eval().to(probe.device)(probe)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CallError(f"the module cannot take samples of the shape {spec.shape}: {error}") from error
    return int(found.shape[1])


def _form(module: nn.Module) -> list[list[str]]:
    """Every submodule by name, type and what it says of itself; without addresses in memory."""
    return [
        [name, type(part).__qualname__, re.sub(r" at 0x[0-9a-f]+", "", part.extra_repr())]
        for name, part in module.named_modules()
    ]
