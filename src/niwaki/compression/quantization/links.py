"""Where one layer's outputs are another's inputs up to a positive factor: seen in a forward pass, believed
after a trial.

f(s·x) = s·f(x) for s > 0 holds of ReLU, LeakyReLU and PReLU, and of what only moves, repeats or averages
values; so W₂ f(W₁ x) = (W₂ S) f(S⁻¹ W₁ x) (Nagel et al. 2019, section 4.1.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from niwaki.compression.forward import outputs
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.surgery.cuts import scale
from niwaki.surgery.layouts import depthwise, layout_of
from niwaki.surgery.remove_parametrization import parametrized

__all__ = ["Link", "find_links", "rescale"]

_CLOSE = 1e-4
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)
_POSITIVE = {
    "relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "_prelu_kernel",
    "view", "_unsafe_view", "reshape", "transpose", "permute", "t", "squeeze", "unsqueeze", "expand",
    "clone", "contiguous", "alias", "slice", "select", "mean",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d",
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d",
    "constant_pad_nd", "reflection_pad2d", "replication_pad2d",
}  # fmt: skip
"""Operators of torch with f(s·x) = s·f(x), channel by channel."""


@dataclass(frozen=True)
class Link:
    """source:  the layer or the norm that makes the channels
    readers: the layers that read them, all of them
    width:   channels that have a factor each
    """

    source: str
    readers: tuple[str, ...]
    width: int

    @property
    def text(self) -> str:
        return f"{self.source} → {' + '.join(self.readers)}"


class _Tags(TorchDispatchMode):
    """Whose output a tensor is, up to a positive factor. Tensors are kept, so that no two have one id."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[int, tuple[Tensor, str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in _POSITIVE and args and isinstance(args[0], Tensor):
            first = out[0] if isinstance(out, tuple) else out
            if (name := self.of(args[0])) and isinstance(first, Tensor):
                self.tags[id(first)] = first, name
        return out

    def of(self, x: Tensor) -> str:
        return self.tags[id(x)][1] if id(x) in self.tags else ""


def find_links(model: GenerativeModel) -> tuple[Link, ...]:
    """The links of `model`, in the order of the calls; each changes no output when its factors are powers of
    two, drawn at random. The model is left as it was."""
    seen = _seen(model.eval())
    wanted = outputs(model)
    found = []
    for source, readers in seen.items():
        link = _sized(model, source, readers)
        if link is not None and _exact(model, link, wanted):
            found.append(link)
    return tuple(found)


@torch.no_grad()
def _seen(model: GenerativeModel) -> dict[str, list[str]]:
    names = {m: n for n, m in model.named_modules()}
    readers: dict[str, list[str]] = {}
    with _Tags() as mode:

        def before(module: nn.Module, inputs: Any, named: Any) -> None:
            x = inputs[0] if inputs else named.get("input")
            source = mode.of(x) if isinstance(x, Tensor) else ""
            if source and names[module] not in readers.setdefault(source, []):
                readers[source].append(names[module])

        def after(module: nn.Module, inputs: Any, out: Tensor) -> None:
            mode.tags[id(out)] = out, names[module]

        layers = [m for m in names if isinstance(m, nn.Linear | _ConvNd) and not parametrized(m)]
        handles = [m.register_forward_pre_hook(before, with_kwargs=True) for m in layers]
        sources = [*layers, *(m for m in names if isinstance(m, _NORMS) and _affine(m))]
        handles += [m.register_forward_hook(after) for m in sources]
        try:
            outputs(model)
        finally:
            for handle in handles:
                handle.remove()
    return readers


def _affine(norm: nn.Module) -> bool:
    return isinstance(getattr(norm, "weight", None), nn.Parameter)


def _sized(model: GenerativeModel, source: str, readers: list[str]) -> Link | None:
    try:
        made = layout_of(model.get_submodule(source), "out").width
        read = [layout_of(model.get_submodule(r), "in").width for r in readers]
    except NiwakiError:
        return None
    width = min(made, *read)
    return None if any(n % width for n in (made, *read)) else Link(source, tuple(readers), width)


@torch.no_grad()
def rescale(model: GenerativeModel, link: Link, factors: Tensor) -> None:
    """The source's channels over `factors` `(width,)`, what reads them times as much; in place."""
    source = model.get_submodule(link.source)
    scale(source, "out", 1.0 / _repeated(factors, layout_of(source, "out").width))
    for name in link.readers:
        reader = model.get_submodule(name)
        spread = _repeated(factors, layout_of(reader, "in").width)
        if depthwise(reader):
            weight = reader.get_parameter("weight")
            weight.mul_(spread.reshape(-1, *[1] * (weight.ndim - 1)))
        else:
            scale(reader, "in", spread)


def _repeated(factors: Tensor, width: int) -> Tensor:
    """One factor for each of `width` positions: channels that became positions, or the other way round, lie
    in runs."""
    return factors.repeat_interleave(width // len(factors))


def _exact(model: GenerativeModel, link: Link, wanted: Iterable[Tensor]) -> bool:
    rng = torch.Generator().manual_seed(0)
    factors = 2.0 ** torch.randint(-3, 4, (link.width,), generator=rng)  # exact, and so is going back
    rescale(model, link, factors)
    made = outputs(model)
    rescale(model, link, 1.0 / factors)
    return all(_close(a, b) for a, b in zip(wanted, made, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return float((a - b).abs().max()) <= _CLOSE * max(float(a.abs().max()), 1e-6)
