"""A block that is left out, as data: what it is given passes through, nothing comes out of it, or the list
that it was in is shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError, nearest

__all__ = ["Drop", "Passed"]


class Passed(nn.Module):
    """Stands where a block was.

    source: the argument that had the block's output's shape: its position, or its name
    fill:   `input` returns it (the block held its own residual sum), `zeros` returns as many zeros (the sum
            is made around the block)
    """

    def __init__(self, source: str, fill: str) -> None:
        super().__init__()
        self.source, self.fill = source, fill

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        x: Tensor = inputs[int(self.source)] if self.source.isdigit() else named[self.source]
        # Contiguous: torch 2.13 on the CPU breaks down on the way back through a GroupNorm that is given
        # channels_last values which need no gradient.
        return x if self.fill == "input" else torch.zeros_like(x, memory_format=torch.contiguous_format)

    def extra_repr(self) -> str:
        return f"{self.source}, {self.fill}"


@dataclass(frozen=True)
class Drop:
    """Leave a submodule out.

    module: dotted name, as in `named_modules()`; the name stays, so that other edits find their layers
    source, fill: as in `Passed`; fill `absent` takes it out of its `nn.ModuleList`, of which the others keep
            their names: where a network goes through a list by other methods than `forward` (a transformer
            that reads beside a cache)
    """

    module: str
    source: str = "0"
    fill: Literal["input", "zeros", "absent"] = "input"

    kind: ClassVar[str] = "drop"

    def apply(self, model: nn.Module) -> None:
        names = dict(model.named_modules())
        if not self.module or self.module not in names:
            raise NiwakiError(
                f"the model has no block '{self.module}' to drop; {nearest(self.module, names)}"
            )
        # Several names may lead to one module (a view, a tied block): all of them lose it.
        gone = names[self.module]
        if self.fill == "absent":
            self._shorten(model, gone)
            return
        passed = Passed(self.source, self.fill).train(gone.training)
        for holder in list(model.modules()):
            for name, child in holder._modules.items():
                if child is gone:
                    holder._modules[name] = passed

    def _shorten(self, model: nn.Module, gone: nn.Module) -> None:
        """The lists that hold it without it. Raises NiwakiError where no list does."""
        lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and gone in set(m)]
        if not lists:
            raise NiwakiError(f"'{self.module}' is in no list that it could be taken out of")
        for one in lists:
            for name in [n for n, child in one._modules.items() if child is gone]:
                del one._modules[name]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "module": self.module, "source": self.source, "fill": self.fill}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Drop:
        return cls(record["module"], record["source"], record["fill"])
