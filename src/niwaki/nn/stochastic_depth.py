"""Stochastic depth (Huang et al. 2016, "Deep networks with stochastic depth"): residual branches that are
left out at random while a network is trained.

A block that adds a branch to its input says in `residual_ends` with which of its modules the branch ends, and
its sum is linear in what that module gives: x + f becomes x + (b / p) f with b = 1 of probability p. So the
mean is x + f, and in evaluation, where nothing is left out, no weight has to be scaled (their Equation 5
scales f by p there instead).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["branches_of", "drop_branches", "keep_branches"]


class _Dropped:
    """What a branch gives, left out for a share of the rows of a batch, by torch's global generator: one coin
    a row, which is a sample, or a frame where frames are rows."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        coins = torch.rand(output.shape[0], *[1] * (output.dim() - 1), device=output.device)
        return output * ((coins >= self.share).to(output.dtype) / (1.0 - self.share))


def branches_of(model: nn.Module) -> list[dict[str, nn.Module]]:
    """The modules that residual branches end with, by their names, block by block in the order of the model;
    each of a list of modules is a block."""
    found: list[dict[str, nn.Module]] = []
    for name, block in model.named_modules():
        ends: dict[str, nn.Module] = {}
        for path in getattr(block, "residual_ends", ()):
            end: Any = block
            for part in path.split("."):
                end = getattr(end, part, None)
            whole = f"{name}.{path}" if name else path
            if isinstance(end, nn.ModuleList):
                found += [{f"{whole}.{at}": one} for at, one in enumerate(end)]
            elif isinstance(end, nn.Module):
                ends[whole] = end
        if ends:
            found.append(ends)
    return found


def drop_branches(model: nn.Module, parts: Sequence[str], share: float) -> int:
    """Leave branches out in training, of block l of the L of a part with probability (l / L)·share (their
    Equation 4): early blocks, by which all later ones go, hardly ever. Returns how many blocks there are;
    `keep_branches` undoes it.

    parts: names of modules, each a network whose blocks follow each other
    share: 0 ≤ share < 1, of the last block
    """
    count = 0
    blocks = branches_of(model)
    for part in dict.fromkeys(parts):
        inside = [ends for ends in blocks if f"{next(iter(ends))}.".startswith(f"{part}.")]
        blocks = [ends for ends in blocks if ends not in inside]
        count += len(inside)
        for at, ends in enumerate(inside, 1):
            for end in ends.values():
                end.register_forward_hook(_Dropped(share * at / len(inside)))
    return count


def keep_branches(model: nn.Module) -> None:
    """No branch is left out any more."""
    for module in model.modules():
        for key in [k for k, hook in module._forward_hooks.items() if isinstance(hook, _Dropped)]:
            del module._forward_hooks[key]
