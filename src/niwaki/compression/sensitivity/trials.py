"""The trials: a model in which one layer alone was pruned, or rounded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from niwaki.compression.config import PruneConfig
from niwaki.compression.forward import check, outputs, shapes
from niwaki.compression.pruning.choice import chosen_couplings
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, cuts_of
from niwaki.compression.pruning.importance.channels import importance_of
from niwaki.compression.pruning.plainly import make_plain
from niwaki.compression.pruning.shares import Shares, makers
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.quantization.ranges import Seen, observe
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.surgery.edits import apply_edits
from niwaki.surgery.quantized import (
    LayerBits,
    Quantizer,
    fit_weights,
    is_quantizable,
    quantize_layer,
    quantized_layers,
)
from niwaki.surgery.quantized_math import affine_scale, symmetric_scale

__all__ = ["Tried", "layers_in_order", "trials"]

_SEEN = 64  # inputs of each graph that ranges are taken from


@dataclass(frozen=True)
class Tried:
    """make: the changed model, anew at every call; together: other layers that change with this one."""

    layer: str
    technique: str
    strength: float
    make: Callable[[], GenerativeModel]
    bytes: int = 0
    together: tuple[str, ...] = ()


@torch.no_grad()
def layers_in_order(model: GenerativeModel) -> list[str]:
    """Layers with weights that sampling calls, in order of their first call."""
    names = {m: n for n, m in model.named_modules() if is_quantizable(m)}
    met: dict[str, None] = {}

    def see(module: nn.Module, inputs: object) -> None:
        met.setdefault(names[module])

    handles = [m.register_forward_pre_hook(see) for m in names]
    try:
        outputs(model)
    finally:
        for handle in handles:
            handle.remove()
    return list(met)


def trials(
    model: GenerativeModel, config: SensitivityConfig, *, seed: int, condition: object = None
) -> list[Tried]:
    """All trials of `config`, cheap to list: models are made when they are measured."""
    order = {name: i for i, name in enumerate(layers_in_order(model))}

    def wanted(layer: str) -> bool:
        return not config.layers or any(layer == w or layer.startswith(f"{w}.") for w in config.layers)

    found = [t for t in _cuts(model, config, order, seed) if wanted(t.layer)] if config.ratios else []
    if config.bits or config.activations:
        found += [t for t in _roundings(model, config, order, condition) if wanted(t.layer)]
    return sorted(found, key=lambda t: order.get(t.layer, len(order)))


def _cuts(
    model: GenerativeModel, config: SensitivityConfig, order: dict[str, int], seed: int
) -> Iterator[Tried]:
    plain = copy.deepcopy(model).cpu().eval()
    make_plain(plain)
    settings = PruneConfig(round_to=1, min_width=1, importance=config.importance)
    free, _ = chosen_couplings(plain, settings, seed)
    scores = importance_of(config.importance)(plain, free)
    expected = shapes(plain)
    for coupling, score in zip(free, scores, strict=True):
        first, *others = sorted(makers(coupling), key=lambda m: order.get(m, len(order)))
        also = tuple(m for m in others if m in order)
        for ratio in config.ratios:
            yield Tried(
                first, "prune", ratio, _cut(plain, coupling, score, ratio, settings, expected), 0, also
            )


def _cut(
    plain: GenerativeModel,
    coupling: Coupling,
    score: Tensor,
    ratio: float,
    settings: PruneConfig,
    expected: list[tuple[int, ...]],
) -> Callable[[], GenerativeModel]:
    def make() -> GenerativeModel:
        removed = Shares(settings, {coupling.key: coupling.units}).removed([coupling], [score], ratio)
        if not removed:
            raise NiwakiError("too narrow to lose that many channels")
        made = copy.deepcopy(plain)
        apply_edits(made, cuts_of(made, removed))
        check(made, expected)
        return made

    return make


def _roundings(
    model: GenerativeModel, config: SensitivityConfig, order: dict[str, int], condition: object
) -> Iterator[Tried]:
    if quantized_layers(model):
        return  # rounded already
    folded = copy.deepcopy(model).cpu().eval()
    fold_norms(folded)
    seen: dict[str, Seen] = {}
    if config.activations:
        seen = observe(folded, calibration_inputs(folded, _SEEN, condition=condition), is_quantizable)
    for name in order:
        layer: Any = folded.get_submodule(name)
        weights = layer.weight.numel()
        if weights == 0:
            continue
        for bits in config.bits:
            saved = weights * (32 - bits) // 8
            yield Tried(name, "weights", bits, _rounded(folded, name, LayerBits(bits)), saved)
        if name in seen and not isinstance(layer, nn.Embedding):
            # openvino wants transposed convolutions without a zero point (`niwaki.deployment.integers`).
            signed = isinstance(layer, _ConvTransposeNd) and seen[name].least < 0
            # 16 bits: weights as half-precision floats, so that the inputs alone are coarse
            asked = LayerBits(16, input="signed" if signed else "unsigned")
            yield Tried(name, "activations", 8, _rounded(folded, name, asked, seen[name]))


def _rounded(
    folded: GenerativeModel, name: str, bits: LayerBits, seen: Seen | None = None
) -> Callable[[], GenerativeModel]:
    def make() -> GenerativeModel:
        made = copy.deepcopy(folded)
        layer = quantize_layer(made.get_submodule(name), bits)
        fit_weights(layer)
        if seen is not None and isinstance(layer.input_quantizer, Quantizer):
            rows = seen.values()[None]
            if layer.input_quantizer.signed:
                layer.input_quantizer.set(symmetric_scale(rows, 8))
            else:
                layer.input_quantizer.set(*affine_scale(rows, 0, 255))
        return made

    return make
