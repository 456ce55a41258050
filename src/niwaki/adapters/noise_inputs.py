"""Noise that a module draws in its forward, handed in from the latents instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from niwaki.core.contract import CallError

__all__ = ["GivenNoise", "noise_shapes"]

_NORMAL = {torch.randn, torch.randn_like, torch.normal, Tensor.normal_}
_UNIFORM = {torch.rand, torch.rand_like, Tensor.uniform_}


class GivenNoise(nn.Module):
    """Calls a module with the first part of z, and gives it the rest wherever it draws noise.

    latent: shape of the module's own latents
    shapes: of what it draws for one sample, in order; uniform noise is Φ of the normals it is given
    """

    def __init__(self, module: nn.Module, latent: Sequence[int], shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.module = module
        self.latent, self.shapes = tuple(latent), tuple(map(tuple, shapes))

    @property
    def size(self) -> int:
        """Normals that one sample takes in all."""
        return math.prod(self.latent) + sum(map(math.prod, self.shapes))

    def forward(self, z: Tensor, *rest: Tensor) -> Any:
        at, parts = 0, []
        for shape in (self.latent, *self.shapes):
            end = at + math.prod(shape)
            parts.append(z[:, at:end].reshape(-1, *shape))
            at = end
        with _Hand(iter(parts[1:]).__next__):
            return self.module(parts[0], *rest)


class _Hand(TorchFunctionMode):
    """Gives `take()` where normal or uniform noise is asked for."""

    def __init__(self, take: Callable[[], Tensor]) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func not in _NORMAL and func not in _UNIFORM:
            return func(*args, **named)
        try:
            normals = self.take()
        except StopIteration:
            raise RuntimeError("the module draws more noise than when it was adapted") from None
        if func is torch.randn or func is torch.randn_like:
            return _as_asked(normals, named)
        if func is torch.rand or func is torch.rand_like:
            return _as_asked(_uniform(normals), named)
        first, second = _pair(func, args, named)
        if func is torch.normal:
            return normals * second + first
        if func is Tensor.normal_:
            return args[0].copy_(normals * second + first)
        return args[0].copy_(_uniform(normals) * (second - first) + first)


def _pair(func: Any, args: Sequence[Any], named: dict[str, Any]) -> tuple[Any, Any]:
    """Mean and standard deviation, or both ends."""
    keys = ("from", "to") if func is Tensor.uniform_ else ("mean", "std")
    given = list(args if func is torch.normal else args[1:])
    usual = (0.0, 1.0)
    found = [given[k] if len(given) > k else named.get(key, usual[k]) for k, key in enumerate(keys)]
    return found[0], found[1]


def _uniform(normals: Tensor) -> Tensor:
    """Φ(z)."""
    return 0.5 * (1 + torch.erf(normals / math.sqrt(2)))


def _as_asked(noise: Tensor, named: dict[str, Any]) -> Tensor:
    dtype = named.get("dtype")
    return noise if dtype is None else noise.to(dtype)


class _Listen(TorchFunctionMode):
    """Remembers the shapes of normal and uniform noise that is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _NORMAL or func in _UNIFORM:
            self.shapes.append(tuple(out.shape))
        return out


def noise_shapes(
    call: Callable[..., Any], inputs: Callable[[int], Sequence[Tensor]], draws: Sequence[Any]
) -> tuple[tuple[int, ...], ...]:
    """Shapes of the noise that is drawn for one sample, in order.

    draws: all that was seen to draw noise in one call
    Raises CallError for noise that cannot be handed in.
    """
    heard = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for n in (3, 5):
            with _Listen() as listen:
                call(*inputs(n))
            heard.append(listen.shapes)
    if len(heard[0]) != len(draws) or len(heard[1]) != len(draws):
        seen = ", ".join(dict.fromkeys(map(str, draws)))
        raise CallError(
            f"the module draws noise that cannot be handed in: {seen}; only normal and uniform noise can be "
            "(torch.randn, torch.rand and their kin), drawn as often at every batch"
        )
    for three, five, draw in zip(*heard, draws, strict=True):
        if not three or (three[0], five[0]) != (3, 5) or three[1:] != five[1:]:
            raise CallError(
                f"the module draws noise that is not of each sample: {draw} is {three} with 3 samples and "
                f"{five} with 5; give it the batch as its first axis"
            )
    return tuple(shape[1:] for shape in heard[0])
