"""Whether the weights that a factory makes are trained ones, or drawn by chance.

It is called once more, with other luck: every operator of torch that draws then draws from a stream of its
own, whatever the seed, so that a factory which seeds itself is found out, too. Weights that were drawn come
out otherwise; weights that were read from a file over the drawn ones, and constants, come out the same.
Nothing tells constants (a BatchNorm as it is built) from trained weights, chance that numpy draws under a
seed of its own from a file, or a module that every call returns from one that was loaded: these pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from niwaki.adapters.first_calls import random_state_kept
from niwaki.core.random_operators import draws_noise
from niwaki.core.store import hash_tensors

__all__ = ["random_weights"]

_OTHER = 0x6E697761
"""A seed that nobody else uses."""


class _OtherLuck(TorchDispatchMode):
    """Operators draw from a stream that no seed of the code inside changes."""

    def __init__(self) -> None:
        super().__init__()
        self.state = torch.Generator().manual_seed(_OTHER).get_state()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if not draws_noise(func, args, named):
            return func(*args, **named)
        if "generator" in named:
            named["generator"] = None
        theirs = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            return func(*args, **named)
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(theirs)


def random_weights(make: Callable[[], Any], module: nn.Module) -> tuple[str, ...]:
    """Names of the weights and kept buffers of `module` that chance has drawn, in its order.

    make: makes such a module again; where it cannot do so a second time, nothing is known: ()
    The process's random state stays as it was.
    """
    found = _marks(module)
    with random_state_kept():
        torch.manual_seed(_OTHER)
        try:
            with _OtherLuck():
                again = make()
        except Exception:  # whatever a factory raises that can be called but once
            return ()
    if not isinstance(again, nn.Module):
        return ()
    other = _marks(again)
    return tuple(name for name, mark in found.items() if other.get(name) != mark)


def _marks(module: nn.Module) -> dict[str, str]:
    """A hash of every value that is there; of layers without any yet, which are refused elsewhere, none."""
    return {
        name: hash_tensors({"": value})
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor) and not nn.parameter.is_lazy(value) and not value.is_meta
    }
