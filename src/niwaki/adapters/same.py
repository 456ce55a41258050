"""Whether a network that was built again is the one that was given, in its settings and its buffers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError

__all__ = ["in_float32", "refuse_changed", "unsaved_buffers"]

_FREE = ("training", "gradient_checkpointing", "use_slicing", "name_or_path", "inplace")
"""Attributes that change how something is computed, not what."""


def refuse_changed(given: nn.Module, fresh: nn.Module, what: str, settings: Mapping[str, Any]) -> None:
    """Hold every plain attribute of every layer against a network fresh from the same configuration.

    What was set by hand (FreeU, another scale, a layer put in the place of one) is in no configuration, and
    would be lost.

    settings: of the configuration, which a layer may repeat
    Raises CallError naming the first setting that is lost.
    """
    theirs = dict(fresh.named_modules())
    for name, module in given.named_modules():
        at = f"'{name}' of {what}" if name else what
        twin = theirs.get(name)
        if twin is None or type(twin) is not type(module):
            wanted = "nothing" if twin is None else type(twin).__name__
            raise CallError(
                f"{at} is a {type(module).__name__}, where its configuration makes {wanted}: what was put in "
                "by hand cannot be built again; take it out, or use niwaki.adapt"
            )
        own, made = dict(_plain(module)), dict(_plain(twin))
        for key in sorted(own.keys() | made.keys()):
            repeated = key in settings and own.get(key) == _frozen(settings[key])
            if own.get(key) != made.get(key) and not repeated:
                raise CallError(
                    f"{at} has '{key}' set to {own.get(key)!r}, where its configuration makes "
                    f"{made.get(key)!r}: a setting made by hand is lost when the network is built again; "
                    "undo it"
                )


def _plain(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for key, value in vars(module).items():
        if not key.startswith("_") and key not in _FREE and _simple(value):
            yield key, _frozen(value)


def _frozen(value: Any) -> Any:
    """Lists as tuples: what was a tuple is a list where a configuration was read from JSON."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _simple(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_simple(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def unsaved_buffers(given: nn.Module, fresh: nn.Module, what: str) -> dict[str, Tensor]:
    """Buffers that no file holds, as they are in float32, for a network that was rounded to a shorter type.

    Raises CallError, by name, for one that differs by more than that rounding.
    """
    kept, theirs = given.state_dict().keys(), dict(fresh.named_buffers())
    found = {}
    for name, value in given.named_buffers():
        if name in kept or name not in theirs:
            continue
        exact = theirs[name].to(value.device)
        if exact.shape != value.shape or not torch.allclose(
            exact.to(value.dtype).float(), value.float(), rtol=1e-6, atol=0.0, equal_nan=True
        ):
            raise CallError(
                f"the buffer '{name}' of {what} is not what its configuration makes, and no file holds it: "
                "it would be lost when the network is built again"
            )
        found[name] = exact
    return found


def in_float32(network: nn.Module, buffers: Mapping[str, Tensor], *, copied: bool = False) -> nn.Module:
    """The network itself where it is in float32; else a copy, with its unsaved buffers as they are exactly.

    copied: a copy in any case
    """
    if not copied and all(p.dtype == torch.float32 for p in network.parameters()):
        return network
    made = copy.deepcopy(network).float()
    for name, value in buffers.items():
        where, _, last = name.rpartition(".")
        made.get_submodule(where)._buffers[last] = value.clone()
    return made
