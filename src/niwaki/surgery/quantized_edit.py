"""Quantization as data: which layers have how many bits, and which norms went into the layer before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from niwaki.core.contract import NiwakiError
from niwaki.surgery.quantized import LayerBits, quantize_layer, unknown
from niwaki.surgery.quantized_fold import absorb

__all__ = ["Quantized"]


@dataclass(frozen=True)
class Quantized:
    """layers: name → how it is quantized; folded: (layer, the norm after it that it has taken in)."""

    layers: Mapping[str, LayerBits] = field(default_factory=dict)
    folded: tuple[tuple[str, str], ...] = ()

    kind: ClassVar[str] = "quantize"

    def apply(self, model: nn.Module) -> None:
        for layer, norm in self.folded:
            absorb(model, layer, norm)
        for name, bits in self.layers.items():
            try:
                layer_ = model.get_submodule(name)
            except AttributeError:
                raise unknown(name, model) from None
            quantize_layer(layer_, bits)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "folded": [list(pair) for pair in self.folded],
            "layers": {name: bits.to_json() for name, bits in self.layers.items()},
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Quantized:
        try:
            layers = {name: LayerBits(**bits) for name, bits in record["layers"].items()}
        except TypeError as error:
            raise NiwakiError(
                f"a quantized layer is described by words unknown here: {error}; update niwaki"
            ) from None
        return cls(layers, tuple((a, b) for a, b in record.get("folded", ())))
