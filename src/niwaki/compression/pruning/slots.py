"""Which single weights there are to prune: those of the layers that sampling runs, found by running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.arithmetic import watch_pass
from niwaki.core.contract import CallError, GenerativeModel, nearest
from niwaki.training.stages import under

__all__ = ["Slot", "check_ratios", "ran", "ratio_of", "slots", "slots_of"]


@dataclass(frozen=True)
class Slot:
    """One tensor of weights.

    weight: the parameter itself
    axis:   where its inputs are counted
    inputs: how many there are in one group of a convolution: patterns do not reach across groups
    """

    weight: nn.Parameter
    axis: int
    inputs: int


def slots(model: GenerativeModel, exclude: tuple[str, ...] = ()) -> tuple[dict[str, Slot], dict[str, str]]:
    """(the weights that can be pruned, by parameter name; layers left alone → why).

    Embeddings, norms, biases and bare parameters are no weights in this sense. `prunable` on the model
    narrows the choice, as for channels.
    """
    offered = getattr(model, "prunable", None)
    offered = offered() if callable(offered) else offered
    names = {id(p): n for n, p in model.named_parameters()}
    paths = {m: n for n, m in model.named_modules()}
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found: dict[str, Slot] = {}
    skipped: dict[str, str] = {}
    for module in ran(model):
        path = paths.get(module, "")
        for slot in slots_of(module):
            name = names.get(id(slot.weight))
            if name is None or "parametrizations" in name:
                skipped[path] = "its weights are parametrized: remove the parametrization first"
            elif id(slot.weight) in looked_up:
                skipped[path] = "its weights are an embedding, too"
            elif under(path, exclude) or under(name, exclude):
                skipped[path] = f"'{path}' is excluded"
            elif offered is not None and not under(path, offered):
                skipped[path] = f"the model does not offer '{path}' for pruning"
            else:
                found[name] = slot
    return found, skipped


def ran(model: GenerativeModel) -> list[nn.Module]:
    """The modules that one pass of the sampling graphs runs, each once, in the order of first use."""
    seen: dict[nn.Module, None] = {}
    watch_pass(model, lambda module, *_: seen.setdefault(module))
    return list(seen)


def slots_of(module: nn.Module) -> Iterator[Slot]:
    """The tensors of a layer in which inputs meet outputs."""
    if isinstance(module, nn.Linear):
        yield Slot(_weight(module), 1, module.in_features)
    elif isinstance(module, _ConvNd):
        inputs = module.in_channels // module.groups
        yield Slot(_weight(module), 0 if module.transposed else 1, inputs)
    elif isinstance(module, nn.MultiheadAttention):  # calls its projections as functions
        if module.in_proj_weight is not None:
            yield Slot(module.in_proj_weight, 1, module.embed_dim)
        yield Slot(_weight(module.out_proj), 1, module.embed_dim)
    elif isinstance(module, nn.RNNBase):
        for name, p in module.named_parameters(recurse=False):
            if name.startswith("weight"):
                yield Slot(p, 1, p.shape[1])
    elif type(module).__name__ == "Conv1D" and isinstance(getattr(module, "weight", None), nn.Parameter):
        weight: nn.Parameter = module.weight  # type: ignore[assignment]  # transformers': (inputs, outputs)
        yield Slot(weight, 0, weight.shape[0])


def _weight(module: nn.Module) -> nn.Parameter:
    """The parameter, also of a quantized layer, whose `weight` is the rounded one. What a norm computes is no
    parameter; `slots` finds that out by its name."""
    held = module._parameters.get("weight")
    found: Any = module.weight if held is None else held
    return found  # type: ignore[no-any-return]


def ratio_of(name: str, ratio: float, ratios: dict[str, float]) -> float:
    """The ratio of a layer: of its longest name in `ratios`, else `ratio`."""
    best = max((n for n in ratios if under(name, (n,))), key=len, default=None)
    return ratio if best is None else ratios[best]


def check_ratios(ratios: dict[str, float], names: list[str]) -> None:
    """Raises CallError for an entry that is the beginning of no name."""
    for one in ratios:
        if not any(under(name, (one,)) for name in names):
            raise CallError(f"'ratios' names '{one}', which cannot be pruned; {nearest(one, names)}")
