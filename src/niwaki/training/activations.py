"""Training in less memory: activations of whole blocks computed again in the backward pass, or kept in main
memory.

Only the input of a checkpointed block is kept; its backward pass runs the block once more (Chen et al. 2016).
Random numbers, autocast and buffers are then as they were the first time, so that gradients have the same
bits: batch normalization does not count a batch twice, and spectral normalization does not turn twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from niwaki_runtime.errors import CallError, nearest

__all__ = ["checkpoint_blocks", "offloading", "release_blocks"]


class _Again:
    """The forward of a module whose activations are not kept."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self.module, self.forward = module, forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        before = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        return checkpoint(
            self.forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _AsTheyWere(self.module, before)),
            **kwargs,
        )


class _AsTheyWere:
    """Inside, buffers have the values of `before`; what they are now comes back at the end. Entered for every
    time that a block is computed again: twice where a penalty is differentiated twice."""

    def __init__(self, module: nn.Module, before: dict[str, Tensor]) -> None:
        self.module, self.before = module, before
        self.now: list[dict[str, Tensor]] = []

    def __enter__(self) -> None:
        buffers = dict(self.module.named_buffers())
        self.now.append({name: buffers[name].clone() for name in self.before})
        self._fill(self.before)

    def __exit__(self, *_: object) -> None:
        self._fill(self.now.pop())

    def _fill(self, values: dict[str, Tensor]) -> None:
        buffers = dict(self.module.named_buffers())
        for name, value in values.items():
            # By `data`: a graph that has saved a buffer must not take it for changed.
            buffers[name].data.copy_(value)


def checkpoint_blocks(model: nn.Module, names: bool | Sequence[str]) -> list[str]:
    """Keep no activations of these modules, of a list of blocks of each of them; True is every list of blocks
    that the model has. Returns the names of the blocks; `release_blocks` undoes it.

    Raises CallError for a name that is no module, and where True finds no list.
    """
    modules = dict(model.named_modules())
    if names is True:
        asked = [name for name, m in modules.items() if isinstance(m, nn.ModuleList) and len(m)]
        asked = [n for n in asked if not any(n != of and n.startswith(f"{of}.") for of in asked)]
        if not asked:
            raise CallError(
                "train.activation_checkpointing: this model has no list of blocks; name modules: "
                f"[{', '.join(name for name, _ in model.named_children())}]"
            )
    else:
        asked = list(names or ())
    blocks: list[str] = []
    for name in asked:
        if name not in modules:
            hint = nearest(name, [known for known in modules if known])
            raise CallError(f"train.activation_checkpointing names '{name}', which is no module; {hint}")
        blocks += _inside(name, modules[name])
    for name in blocks:
        module = modules[name]
        if not isinstance(module.__dict__.get("forward"), _Again):
            module.__dict__["forward"] = _Again(module, module.forward)
    return blocks


def _inside(name: str, module: nn.Module) -> list[str]:
    """Names of the blocks of a list, also where it is a list of lists; a module that is none is one block."""
    if not isinstance(module, nn.ModuleList):
        return [name]
    return [block for key, child in module.named_children() for block in _inside(f"{name}.{key}", child)]


def release_blocks(model: nn.Module) -> None:
    """Modules keep their activations again."""
    for module in model.modules():
        own = module.__dict__.get("forward")
        if isinstance(own, _Again):
            del module.__dict__["forward"]
            if own.forward != module.forward:  # an outside module with a forward of its own
                module.__dict__["forward"] = own.forward


def offloading(on: bool, device: torch.device) -> AbstractContextManager[Any]:
    """Inside, what the backward pass needs is kept in main memory."""
    return torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda") if on else nullcontext()
