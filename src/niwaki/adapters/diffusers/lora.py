"""LoRA weights merged into a pipeline's networks on the way in: W + s (α/r) B A (Hu et al. 2022, Section
4.1)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.folder import Parts
from niwaki.adapters.diffusers.kinds import KINDS
from niwaki.core.contract import CallError, nearest
from niwaki.core.lora_files import Lora, Pair, read_pairs
from niwaki.nn.low_rank import changed_by

__all__ = ["merge_loras"]


@torch.no_grad()
def merge_loras(parts: Parts, loras: Sequence[Lora]) -> Parts:
    """The pipeline with LoRA weights merged into the networks that they are for, one file after the other.

    Raises CallError, by name, for weights that fit nothing in the pipeline, that lack their other half, or
    that are neither LoRA nor DoRA (LoHa, LoKr …).
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
                weight: Any = module.weight
                weight.copy_(changed_by(weight, pair, lora.scale, lora.path))
    weights = {name: network.state_dict() for name, network in originals.items()}
    return replace(parts, originals=originals, weights=weights)


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
