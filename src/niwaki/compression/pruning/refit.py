"""Closed-form recovery after a cut: what layers made of all channels, they make of those that stay.

With x the inputs of a layer before the cut, x̂ those after it and y = Wx + b the outputs that are wanted,

    W' = W_K + E[(y − W_K x̂ − b) x̂ᵀ] (E[x̂x̂ᵀ] + λI)⁻¹,   moments about the means where there is a bias,

W_K the weights as they were cut: least squares with a penalty on leaving them. It is the optimal brain
surgeon's update for whole columns (Hassibi & Stork 1993; Kurtić et al., "ZipLM", 2023, equation 2; Luo et
al., "ThiNet", 2017, equation 6), with the inputs that the cut and refitted layers before it make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.quantization.adaptive import as_batches, damped
from niwaki.compression.quantization.design import from_rows, input_rows, weight_rows
from niwaki.compression.quantization.ranges import Items
from niwaki.core.contract import GenerativeModel
from niwaki.core.errors import NiwakiError
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import Edit
from niwaki.surgery.sparse import patterns

__all__ = ["SAMPLES", "Refitted", "refit", "solve_layer"]

SAMPLES = 512
"""Calibration inputs of each graph."""
_VALUES = 1 << 27  # of the whole model's outputs of layers, kept at a time: half a gigabyte
_SHARE = 1e-4  # of the mean diagonal: λ where places are many
_FEW = 0.1  # more of it where they are few beside the columns


@dataclass(frozen=True)
class Refitted:
    """What was solved again.

    errors:  layer → E‖y − ŷ‖² of its outputs, over their variance, with the weights as they were cut and as
             they are now
    skipped: layer that lost inputs → why it keeps its weights
    """

    errors: dict[str, tuple[float, float]]
    skipped: dict[str, str]

    def told(self) -> str:
        """One sentence."""
        before, now = (sum(e[i] for e in self.errors.values()) / len(self.errors) for i in (0, 1))
        rest = "; ".join(f"'{name}' is not: {why}" for name, why in list(self.skipped.items())[:2])
        return (
            f"refitted {len(self.errors)} layers: their outputs miss {now:.1%} of their variance on average, "
            f"which were {before:.1%}" + (f" ({rest})" if rest else "")
        )


@torch.no_grad()
def refit(
    model: GenerativeModel,
    whole: GenerativeModel,
    cuts: Iterable[Edit],
    items: Items,
    share: float | None = None,
) -> Refitted:
    """Solve the layers of the cut `model` that lost inputs, in the order of their calls; in place.

    Linear layers and convolutions of floats that run once per call of one graph; both models are in eval mode
    whole: the model before `cuts`
    items: calibration inputs of each graph, of which up to 512 are used
    share: of the mean diagonal of E[x̂x̂ᵀ] that λ is; by default 1e-4 and a tenth of columns/places
    Raises NiwakiError where no layer can be solved.
    """
    made = [c for c in cuts if isinstance(c, Cut)]
    stay = {c.module: list(c.keep) for c in made if c.side == "out"}
    wanted, skipped = _solvable(model, whole, dict.fromkeys(c.module for c in made if c.side == "in"))
    one = sum(y.numel() for y in _outputs(whole, as_batches(whole, items, 1), wanted)[0].values())
    graphs = as_batches(model, items, max(1, min(SAMPLES, _VALUES // max(one, 1))))
    targets, calls = _outputs(whole, graphs, wanted)
    for name in wanted:
        if calls[name] != 1:
            times = f"it is called {calls[name]} times in a pass" if calls[name] else "no graph calls it"
            skipped[name] = times if graphs else "the inputs of its graph do not make one batch"
    errors: dict[str, tuple[float, float]] = {}

    def hook(name: str) -> Any:
        def solve(layer: nn.Module, inputs: Any, named: Any) -> None:
            x, y = inputs[0] if inputs else named["input"], targets.pop(name)
            y = y.movedim(1, -1) if isinstance(layer, _ConvNd) else y
            y = y.flatten(0, -2)
            errors[name] = solve_layer(layer, x, y[:, stay[name]] if name in stay else y, share)

        return solve

    layers = {n: m for n, m in wanted.items() if n not in skipped}
    handles = [m.register_forward_pre_hook(hook(n), with_kwargs=True) for n, m in layers.items()]
    try:
        for name, given in graphs.items():
            model.shipped_graphs()[name](*given)
    finally:
        for handle in handles:
            handle.remove()
    if not errors:
        why = next((f" ('{name}': {why})" for name, why in skipped.items()), "")
        raise NiwakiError(
            f"refit: no layer that uses the cut channels can be solved again{why}; set it to false"
        )
    return Refitted(errors, skipped)


def _solvable(
    model: GenerativeModel, whole: GenerativeModel, names: Iterable[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """(layers of `model` by name, those that cannot be solved → why)."""
    holders = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    sparse, modules = patterns(model), dict(model.named_modules())
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in names:
        layer = modules.get(name)
        weight = None if layer is None else layer._parameters.get("weight")
        if not isinstance(layer, nn.Linear | _ConvNd) or weight is None or not weight.is_floating_point():
            skipped[name] = "it is no linear layer or convolution of floats"
        elif holders[id(weight)] > 1:
            skipped[name] = "its weights are those of another layer, too"
        elif f"{name}.weight" in sparse:
            skipped[name] = "its zeros are to stay"
        elif isinstance(layer, _ConvNd) and layer.groups != whole.get_submodule(name).groups:
            skipped[name] = "its groups are others than before"
        else:
            found[name] = layer
    return found, skipped


def _outputs(
    whole: GenerativeModel, graphs: Mapping[str, tuple[Tensor, ...]], names: Iterable[str]
) -> tuple[dict[str, Tensor], Counter[str]]:
    """What the layers make in the whole model, and how often they are called."""
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def hook(name: str) -> Any:
        def see(layer: nn.Module, inputs: Any, out: Tensor) -> None:
            calls[name] += 1
            found[name] = out.clone()  # what follows may write into it

        return see

    handles = [whole.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        for name, inputs in graphs.items():
            whole.shipped_graphs()[name](*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found, calls


def solve_layer(layer: Any, x: Tensor, y: Tensor, share: float | None = None) -> tuple[float, float]:
    """Weights and bias for outputs y (places, outputs) of the inputs x, in place; the relative errors before
    and after. float64, but for the products of float32 inputs, which are summed up in it.
    """
    weight, bias = layer.weight, layer.bias
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    rows = weight_rows(layer, weight).double()
    power: Any = 0.0
    cross: Any = 0.0
    inputs: Any = 0.0
    at = 0
    for (part,) in input_rows(layer, x):
        made = (
            y[at : at + part.shape[1]].unflatten(1, (groups, -1)).transpose(0, 1)
        )  # (groups, places, outputs)
        power, cross = power + (part.mT @ part).double(), cross + (part.mT @ made).double()
        inputs = inputs + part.double().sum(1)
        at += part.shape[1]
    mean_x, mean_y = inputs / at, y.double().mean(0).unflatten(0, (groups, -1))
    power, cross = (
        power / at,
        cross / at,
    )  # E[x̂x̂ᵀ] (groups, columns, columns), E[x̂yᵀ] (groups, columns, outputs)
    total = y.double().var(0, unbiased=False).sum().clamp_min(1e-30)
    squares = y.double().square().mean(0).sum()
    shift = torch.zeros_like(mean_y) if bias is None else bias.double().unflatten(0, (groups, -1))

    def error(w: Tensor, b: Tensor) -> float:
        """E‖y − wx̂ − b‖², expanded."""
        on = (w @ mean_x[..., None])[..., 0]
        lost = (
            squares - 2 * (w * cross.mT).sum() + ((w @ power) * w).sum() + (b * (b + 2 * (on - mean_y))).sum()
        )
        return float(lost.clamp_min(0.0) / total)

    hessian, target = power, cross
    if bias is not None:
        hessian = power - mean_x[..., None] * mean_x[..., None, :]
        target = cross - mean_x[..., None] * mean_y[..., None, :]
    full = damped(hessian, _SHARE + _FEW * hessian.shape[-1] / at if share is None else share)
    solved, before = rows + torch.linalg.solve(full, target - hessian @ rows.mT).mT, error(rows, shift)
    if bias is not None:
        shift = mean_y - (solved @ mean_x[..., None])[..., 0]
        bias.copy_(shift.flatten())
    weight.copy_(from_rows(layer, solved.to(weight.dtype), weight))
    return before, error(solved, shift)
