"""torchao with torch.compile: one row for each way that it offers on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compression_rows.artefact import Artefact
from compression_rows.subject import Subject
from compression_rows.torchao_networks import parts, quantized
from niwaki.models.io import load_model

__all__ = ["torchao_way"]


def torchao_way(way: str) -> Callable[[Subject, Path], tuple[Artefact, dict[str, Any]]]:
    """The row of one way."""

    def make(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
        modules = quantized(load_model(subject.saved), way)
        made = Artefact("torch", str(subject.saved), way, sampling=str(subject.bundle))
        return made, {"bytes": _bytes(modules.values())}

    return make


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Of all that the networks hold, each tensor once: what a safetensors file of it would take."""
    seen: dict[int, int] = {}
    for module in modules:
        for tensor in module.state_dict().values():
            for part in (parts(tensor) or [tensor]) if isinstance(tensor, Tensor) else []:
                plain = parts(part) or [part]  # torchao nests them
                for p in plain:
                    seen[p.untyped_storage().data_ptr()] = p.numel() * p.element_size()
    return sum(seen.values())
