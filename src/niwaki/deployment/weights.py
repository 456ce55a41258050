"""How large a torch model is where nothing is compressed: what ratios of bytes are against."""

from __future__ import annotations

from safetensors.torch import save
from torch import Tensor

from niwaki.core.contract import GenerativeModel, Graph

__all__ = ["weight_bytes"]


def weight_bytes(model: GenerativeModel) -> int:
    """Size of a safetensors file that holds what shipped programs need, in float32, each weight once."""
    graphs: dict[str, Graph] = model.shipped_graphs()
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, graph in graphs.items():
        for key, tensor in graph.module.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[f"{name}.{key}"] = _float32(tensor)
    return len(save(kept))


def _float32(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor
