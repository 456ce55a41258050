"""Parts that no phase of a model trains: what is cut from them no fine-tuning mends."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from niwaki.core.contract import GenerativeModel

__all__ = ["frozen_parts"]


def frozen_parts(model: GenerativeModel) -> tuple[str, ...]:
    """Names of modules of which no phase trains a parameter, the outermost ones (an autoencoder that comes
    from another training); none for a model without phases, which is taught by its teacher alone."""
    wanted = [name for phase in model.phases() for name in phase.parameters]
    trained = {
        id(p)
        for path, p in model.named_parameters()
        if any(path == name or path.startswith(name + ".") for name in wanted)
    }
    return tuple(_untrained(model, "", trained)) if trained else ()


def _untrained(module: nn.Module, prefix: str, trained: set[int]) -> Iterator[str]:
    for name, child in module.named_children():
        found = [id(p) in trained for p in child.parameters()]
        if found and not any(found):
            yield prefix + name
        elif not all(found):
            yield from _untrained(child, f"{prefix}{name}.", trained)
