"""LoRA weights merged into a pipeline's networks on the way in: W + s (α/r) B A (Hu et al. 2022, Section
4.1)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.folder import Parts
from niwaki.adapters.diffusers.kinds import KINDS
from niwaki.adapters.diffusers.lora_files import Pair, read_pairs
from niwaki.core.contract import CallError, nearest

__all__ = ["Lora", "merge_loras"]


@dataclass(frozen=True)
class Lora:
    """A file of LoRA weights, or the folder of one, and the factor s that they are added with."""

    path: Path
    scale: float = 1.0

    @classmethod
    def of(cls, given: str | Path) -> Lora:
        """`path`, or `path:0.8`. Raises CallError where nothing lies there."""
        path, scale = Path(given).expanduser(), 1.0
        if not path.exists():
            before, colon, after = str(given).rpartition(":")
            with suppress(ValueError):  # a name with a colon in it
                path, scale = (Path(before).expanduser(), float(after)) if colon else (path, scale)
        if not path.exists():
            raise CallError(f"there are no LoRA weights at {path} (PATH, or PATH:0.8 to scale them)")
        return cls(path, scale)


@torch.no_grad()
def merge_loras(parts: Parts, loras: Sequence[Lora]) -> Parts:
    """The pipeline with LoRA weights merged into the networks that they are for, one file after the other.

    Raises CallError, by name, for weights that fit nothing in the pipeline, that lack their other half, or
    that are no LoRA (DoRA, LoHa, LoKr …).
    """
    originals = dict(parts.originals)
    for lora in loras:
        found: dict[str, list[tuple[nn.Module, Pair]]] = {}
        named = _Names(originals, parts)
        for pair in read_pairs(lora.path):
            component, module = named.find(pair, lora.path)
            found.setdefault(component, []).append((module, pair))
        for component, pairs in found.items():
            if parts.borrowed and originals[component] is parts.originals[component]:
                mine = copy.deepcopy(originals[component])  # what was given stays as it is
                twins = dict(zip(originals[component].modules(), mine.modules(), strict=True))
                pairs = [(twins[module], pair) for module, pair in pairs]
                originals[component] = mine
            for module, pair in pairs:
                _merge(module, pair, lora)
    weights = {name: network.state_dict() for name, network in originals.items()}
    return replace(parts, originals=originals, weights=weights)


def _merge(module: Any, pair: Pair, lora: Lora) -> None:
    weight: Tensor = module.weight
    down, up = pair.down.float(), pair.up.float()
    wide = up.flatten(1).shape[1]
    # Of convolutions A has the kernel and B is 1 × 1; linear layers may be written so, too.
    change = torch.einsum("or,ri...->oi...", up.flatten(1), down) if wide == down.shape[0] else None
    if change is not None and change.numel() == weight.numel():
        change = change.reshape(weight.shape)
    if change is None or change.shape != weight.shape:
        raise CallError(
            f"{lora.path} holds '{pair.key}' of A {tuple(down.shape)} and B {tuple(up.shape)} for a weight "
            f"{tuple(weight.shape)}: the LoRA was made for another model"
        )
    scale = lora.scale * pair.factor
    module.weight.copy_((weight.float() + scale * change.to(weight.device)).to(weight.dtype))


class _Names:
    """Layers of a pipeline by the names that files give them."""

    def __init__(self, networks: Mapping[str, nn.Module], parts: Parts) -> None:
        self.denoiser = KINDS[parts.pipeline].denoiser
        self.layers = {
            component: {name: module for name, module in network.named_modules() if _takes(module)}
            for component, network in networks.items()
        }
        self.flat = {
            component: {name.replace(".", "_"): module for name, module in layers.items()}
            for component, layers in self.layers.items()
        }

    def find(self, pair: Pair, path: Path) -> tuple[str, nn.Module]:
        """Component and layer. Raises CallError for a name that fits nothing."""
        component = pair.component or self.denoiser
        known = (self.flat if pair.flat else self.layers).get(component, {})
        dot = "_" if pair.flat else "."
        # transformers has had CLIP's layers with and without this in front.
        plain = pair.module.removeprefix(f"text_model{dot}")
        for name in (pair.module, plain, f"text_model{dot}{plain}"):
            if name in known:
                return component, known[name]
        if not known:
            there = ", ".join(sorted(self.layers))
            raise CallError(
                f"{path} holds '{pair.key}' for a '{component}', which the pipeline does not have ({there})"
            )
        raise CallError(
            f"{path} holds '{pair.key}', which fits no layer of the pipeline's '{component}'; "
            f"{nearest(pair.module, known)}"
        )


def _takes(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim >= 2
