"""What is done to a model before anything is pruned: norms of weights are taken off, attention is opened."""

from __future__ import annotations

from collections.abc import Callable

import torch

from niwaki.compression.forward import outputs
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.edits import Edit, apply_edits
from niwaki.surgery.remove_parametrization import RemoveParametrization, parametrized
from niwaki.surgery.unfused_attention import UnfusedAttention, is_fused_attention

__all__ = ["make_plain"]


def make_plain(model: GenerativeModel) -> None:
    """Take off the weight and spectral norms of the layers that sampling uses and open torch's attention; the
    outputs stay as they are."""
    met: list[Edit] = []

    def watched(edit: Edit) -> Callable[..., None]:
        return lambda *_: met.append(edit)

    handles = [
        module.register_forward_pre_hook(
            watched(RemoveParametrization(name) if parametrized(module) else UnfusedAttention(name))
        )
        for name, module in model.named_modules()
        if parametrized(module) or is_fused_attention(module)
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which would not call the modules
    try:
        outputs(model)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    edits = tuple(dict.fromkeys(met))
    apply_edits(model, edits)
    model.surgery = (*model.surgery, *edits)
