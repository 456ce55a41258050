"""Closed-form recovery after a cut: what layers made of all channels, they make of those that stay.

With x the inputs of a layer before the cut, x̂ those after it and y = Wx + b the outputs that are wanted,

    W' = W_K + E[(y − W_K x̂ − b) x̂ᵀ] (E[x̂x̂ᵀ] + λI)⁻¹,   moments about the means where there is a bias,

W_K the weights as they were cut: least squares with a penalty on leaving them. It is the optimal brain
surgeon's update for whole columns (Hassibi & Stork 1993; Kurtić et al., "ZipLM", 2023, equation 2; Luo et
al., "ThiNet", 2017, equation 6), with the inputs that the cut and refitted layers before it make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from niwaki.compression.comparable_inputs import comparable_inputs
from niwaki.compression.quantization.adaptive import as_batches, damped
from niwaki.compression.quantization.design import from_rows, input_rows, weight_rows
from niwaki.compression.quantization.ranges import Items, calls
from niwaki.core.contract import GenerativeModel
from niwaki.core.errors import NiwakiError
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import Edit
from niwaki.surgery.sparse import patterns

__all__ = ["SAMPLES", "Moments", "Refitted", "refit"]

SAMPLES = 512
"""Calibration inputs of each graph."""
_VALUES = 1 << 27  # of the whole model's outputs of layers, kept at a time: half a gigabyte
_BATCHES = 64  # of a graph whose inputs do not make one
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
    """Solve the linear layers and convolutions of the cut `model` that lost inputs, in place.

    Those that run once, in a graph whose inputs make one batch, are solved in one pass, in the order of their
    calls; then the others, with a pass over all inputs for each. Both models are in eval mode.
    whole: the model before `cuts`
    items: calibration inputs of each graph, of which up to 512 are used
    share: of the mean diagonal of E[x̂x̂ᵀ] that λ is; by default 1e-4 and a tenth of columns/places
    Raises NiwakiError where no layer can be solved.
    """
    made = [c for c in cuts if isinstance(c, Cut)]
    stay = {c.module: list(c.keep) for c in made if c.side == "out"}
    wanted, skipped = _solvable(model, whole, dict.fromkeys(c.module for c in made if c.side == "in"))
    before, items = comparable_inputs(model, whole, items)
    one = sum(y.numel() for y in _outputs(whole, as_batches(whole, before, 1), wanted)[0].values())
    most = max(1, min(SAMPLES, _VALUES // max(one, 1)))
    graphs = as_batches(model, items, most)
    targets, counts = _outputs(whole, as_batches(whole, before, most), wanted)
    every = list(zip(_every(model, items), _every(whole, before), strict=True))
    many = len({name for (name, _), _ in every})
    passes = [n for n in _order(whole, [b for _, b in every], wanted) if counts[n] != 1 or len(graphs) < many]
    errors: dict[str, tuple[float, float]] = {}

    def hook(name: str) -> Any:
        def solve(layer: nn.Module, inputs: Any, named: Any) -> None:
            sums = Moments(layer)
            sums.add(inputs[0] if inputs else named["input"], targets.pop(name), stay.get(name))
            errors[name] = sums.solve(share)

        return solve

    layers = {n: m for n, m in wanted.items() if counts[n] == 1 and n not in passes}
    handles = [m.register_forward_pre_hook(hook(n), with_kwargs=True) for n, m in layers.items()]
    try:
        for name, given in graphs.items():
            model.shipped_graphs()[name](*given)
    finally:
        for handle in handles:
            handle.remove()
    for name in passes:
        sums = Moments(wanted[name])
        for (graph, given), (_, given_whole) in every:
            xs, ys = _met(model, name, graph, given, False), _met(whole, name, graph, given_whole, True)
            for x, y in zip(xs, ys, strict=True):
                sums.add(x, y, stay.get(name))
        errors[name] = sums.solve(share)
    skipped |= {n: "no graph calls it" for n in wanted if n not in errors}
    if not errors:
        why = next((f" ('{name}': {why})" for name, why in skipped.items()), "")
        raise NiwakiError(
            f"refit: no layer that uses the cut channels can be solved again{why}; set it to false"
        )
    return Refitted(errors, skipped)


def _every(model: GenerativeModel, items: Items) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Graphs and their inputs, in as many batches as it takes; of many, 64 spread evenly."""
    for name, graph in model.shipped_graphs().items():
        batches = list(calls(graph, items.get(name, ())[:SAMPLES]))
        for given in batches[:: max(1, -(-len(batches) // _BATCHES))]:
            yield name, given


def _order(
    model: GenerativeModel, every: Iterable[tuple[str, tuple[Tensor, ...]]], names: Iterable[str]
) -> list[str]:
    """Of these layers those that are called, in the order of their first calls."""
    met: dict[str, None] = {}
    handles = [
        model.get_submodule(n).register_forward_pre_hook(lambda *_, n=n: met.setdefault(n)) for n in names
    ]
    try:
        for name, given in dict(every).items():  # one batch of each graph
            model.shipped_graphs()[name](*given)
    finally:
        for handle in handles:
            handle.remove()
    return list(met)


def _met(model: GenerativeModel, name: str, graph: str, given: tuple[Tensor, ...], out: bool) -> list[Tensor]:
    """What the layer is given, or makes, call by call."""
    found: list[Tensor] = []

    def see(layer: nn.Module, inputs: Any, named: Any, made: Tensor) -> None:
        found.append((made if out else inputs[0] if inputs else named["input"]).clone())

    handle = model.get_submodule(name).register_forward_hook(see, with_kwargs=True)
    try:
        model.shipped_graphs()[graph](*given)
    finally:
        handle.remove()
    return found


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


class Moments:
    """Sums over the calls of a layer of what it is given and of the outputs that are wanted of it.

    float64, but for the products of float32 inputs, which are summed up in it.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.groups = layer.groups if isinstance(layer, _ConvNd) else 1
        self.places = 0
        self.power: Any = 0.0  # x̂x̂ᵀ (groups, columns, columns)
        self.cross: Any = 0.0  # x̂yᵀ (groups, columns, outputs)
        self.inputs: Any = 0.0  # (groups, columns)
        self.outputs: Any = 0.0  # (outputs,)
        self.squares: Any = 0.0

    def add(self, x: Tensor, y: Tensor, stay: list[int] | None = None) -> None:
        """One call: inputs x, and outputs y, of which those numbered in `stay` are wanted."""
        y = (y.movedim(1, -1) if isinstance(self.layer, _ConvNd) else y).flatten(0, -2)
        y = y if stay is None else y[:, stay]
        at = 0
        for (part,) in input_rows(self.layer, x):
            made = y[at : at + part.shape[1]].unflatten(1, (self.groups, -1)).transpose(0, 1)
            self.power = self.power + (part.mT @ part).double()
            self.cross = self.cross + (part.mT @ made).double()
            self.inputs = self.inputs + part.double().sum(1)
            at += part.shape[1]
        self.places += at
        self.outputs = self.outputs + y.double().sum(0)
        self.squares = self.squares + y.double().square().sum(0)

    def solve(self, share: float | None = None) -> tuple[float, float]:
        """Weights and bias in place; E‖y − ŷ‖² over the variance of y, before and after."""
        layer, n = self.layer, self.places
        rows = weight_rows(layer, layer.weight).double()
        power, cross, mean_x, mean_y = (v / n for v in (self.power, self.cross, self.inputs, self.outputs))
        squares = (self.squares / n).sum()
        total = (squares - mean_y.square().sum()).clamp_min(1e-30)
        mean_y = mean_y.unflatten(0, (self.groups, -1))
        bias = layer.bias
        shift = torch.zeros_like(mean_y) if bias is None else bias.double().unflatten(0, (self.groups, -1))

        def error(w: Tensor, b: Tensor) -> float:
            """E‖y − wx̂ − b‖², expanded."""
            on = (w @ mean_x[..., None])[..., 0]
            lost = squares - 2 * (w * cross.mT).sum() + ((w @ power) * w).sum()
            return float((lost + (b * (b + 2 * (on - mean_y))).sum()).clamp_min(0.0) / total)

        hessian, target = power, cross
        if bias is not None:
            hessian = power - mean_x[..., None] * mean_x[..., None, :]
            target = cross - mean_x[..., None] * mean_y[..., None, :]
        full = damped(hessian, _SHARE + _FEW * hessian.shape[-1] / n if share is None else share)
        solved, before = rows + torch.linalg.solve(full, target - hessian @ rows.mT).mT, error(rows, shift)
        if bias is not None:
            shift = mean_y - (solved @ mean_x[..., None])[..., 0]
            bias.copy_(shift.flatten())
        layer.weight.copy_(from_rows(layer, solved.to(layer.weight.dtype), layer.weight))
        return before, error(solved, shift)
