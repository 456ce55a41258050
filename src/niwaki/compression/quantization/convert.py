"""A model with quantized layers: which ones, with how many bits, over which ranges."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from niwaki.compression.quantization.adaptive import Adapted, adapt_layers
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.config import LayerConfig, QuantizeConfig
from niwaki.compression.quantization.correct import correct_biases
from niwaki.compression.quantization.monte_carlo import sample_layers
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.quantization.ranges import Seen, observe
from niwaki.compression.quantization.scaling import Scaled, scale_where_it_helps
from niwaki.core.contract import CallError, GenerativeModel, nearest
from niwaki.core.errors import NothingToDo
from niwaki.surgery.quantized import LayerBits, Quantizer, fit_weights, is_quantizable, quantized_layers
from niwaki.surgery.quantized_edit import Quantized
from niwaki.surgery.quantized_math import affine_scale, symmetric_scale

__all__ = ["Conversion", "quantize_model"]

_SMALL = 4096  # values; smaller tables of embeddings gain nothing
_FEW = 16  # samples that show which layers are called


@dataclass(frozen=True)
class Conversion:
    """model: the quantized copy; skipped: layer → why it stayed in float; notes: counts per bits."""

    model: GenerativeModel
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def quantize_model(model: GenerativeModel, config: QuantizeConfig, *, condition: Any = None) -> Conversion:
    """A copy of `model` whose layers round their weights, and their inputs where `config` says so.

    Batch norms go into the layers before them first; then come `equalize` and `smooth`. Ranges come from the
    inputs that real sampling gives (`niwaki.compression.quantization.calibrate`). The copy trains, saves,
    reloads and exports as the model does.
    condition: what calibration samples are asked for; None is the classes in turn
    Raises CallError for a layer that the model does not have and for a model that is quantized already,
    NiwakiError where no layer is left to quantize.
    """
    if quantized_layers(model):
        raise CallError("the model is quantized already")
    made = copy.deepcopy(model).cpu().eval()
    folded = fold_norms(made)
    seeing = config.mode == "static" or config.method == "adaptive"
    items = calibration_inputs(
        model, config.calibration if seeing else _FEW, seed=config.seed, condition=condition
    )
    seen = observe(made, items, is_quantizable)
    layers, skipped = chosen_layers(made, config, seen)
    if not layers:
        raise NothingToDo(
            "there is no layer to quantize: all were left in float or are never called by sampling"
        )
    scaled: tuple[Scaled, ...] = ()
    if config.equalize or config.smooth:
        scaled = scale_where_it_helps(
            made,
            items,
            lambda m: _rounded(copy.deepcopy(m), layers, config, observe(m, items, is_quantizable))[0],
            equalize=config.equalize,
            smooth=config.smooth,
        )
        seen = observe(made, items, is_quantizable) if scaled else seen
    whole = copy.deepcopy(made)
    made, sampled = _rounded(made, layers, config, seen)
    made.surgery = (*model.surgery, Quantized(layers, folded))
    adapted = adapt_layers(made, whole, items) if config.method == "adaptive" else {}
    corrected = correct_biases(made, whole, items) if config.correct else 0
    notes = _notes(layers, folded, corrected)
    return Conversion(
        made, skipped, (*notes, *(one.text for one in scaled), *sampled, *_adapted_notes(adapted))
    )


def _rounded(
    model: GenerativeModel, layers: dict[str, LayerBits], config: QuantizeConfig, seen: dict[str, Seen]
) -> tuple[GenerativeModel, tuple[str, ...]]:
    """`model`, its `layers` quantized in place, and what there is to tell of it."""
    Quantized(layers).apply(model)
    notes: tuple[str, ...] = ()
    if config.method == "monte_carlo":
        _, notes = sample_layers(quantized_layers(model), config.samples, config.seed)
    for name, layer in quantized_layers(model).items():
        if config.method != "monte_carlo":
            fit_weights(layer, config.observer)
        if isinstance(layer.input_quantizer, Quantizer):
            _fit_input(layer.input_quantizer, seen[name], config.observer)
    return model, notes


def chosen_layers(
    model: GenerativeModel, config: QuantizeConfig, seen: dict[str, Seen]
) -> tuple[dict[str, LayerBits], dict[str, str]]:
    """The layers to quantize, and why not the others of the networks that sampling uses."""
    names = [n for n, m in model.named_modules() if is_quantizable(m)]
    for wanted in [*config.layers, *config.ignored]:
        if not any(_begins(n, wanted) for n in names):
            raise CallError(f"there is no layer '{wanted}' to quantize; {nearest(wanted, names)}")
    layers, skipped = {}, {}
    graphs = {id(m) for g in _shipped(model) for m in g.module.modules()}
    for name in names:
        module = model.get_submodule(name)
        if id(module) not in graphs:
            continue  # a network that only training uses
        if name not in seen:
            skipped[name] = "no program calls it"
            continue
        asked = config.of(name)
        if asked is None:
            skipped[name] = "left in float as asked"
        elif (
            isinstance(module, nn.Embedding) and module.weight.numel() < _SMALL and name not in config.layers
        ):
            skipped[name] = f"a table of fewer than {_SMALL} values"
        elif isinstance(module, nn.Linear) and _flat(module):
            skipped[name] = "it has no weights"
        else:
            layers[name] = _bits(module, asked, seen[name])
    for name, module in model.named_modules():
        if id(module) in graphs and isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
            skipped[name] = f"weights inside {type(module).__name__} stay in float"
    return layers, skipped


def _flat(module: nn.Linear) -> bool:
    return module.weight.numel() == 0


def _shipped(model: GenerativeModel) -> list[Any]:
    return list(model.shipped_graphs().values())


def _begins(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


def _bits(module: nn.Module, asked: LayerConfig, seen: Seen) -> LayerBits:
    kind: Any = ""
    if asked.activations != "float" and not isinstance(module, nn.Embedding):
        # openvino runs transposed convolutions in float where their input has a zero point
        # (`niwaki.deployment.integers`); all others err less on unsigned inputs.
        signed = isinstance(module, _ConvTransposeNd) and seen.least < 0
        kind = "signed" if signed else "unsigned"
    inputs = 8 if asked.activations == "float" else asked.activations
    return LayerBits(asked.bits, asked.granularity, asked.group, asked.symmetric, kind, inputs)


def _fit_input(quantizer: Quantizer, seen: Seen, observer: str) -> None:
    rows = seen.values()[None]
    if quantizer.signed:
        quantizer.set(symmetric_scale(rows, quantizer.high.bit_length() + 1, observer))
    else:
        quantizer.set(*affine_scale(rows, quantizer.low, quantizer.high, observer))


def _notes(
    layers: dict[str, LayerBits], folded: tuple[tuple[str, str], ...], corrected: int
) -> tuple[str, ...]:
    counts = Counter((b.bits, b.input_bits if b.input else 0) for b in layers.values())
    notes = [
        f"{n} layers with {bits}-bit weights and {f'{given}-bit' if given else 'float'} inputs"
        for (bits, given), n in sorted(counts.items())
    ]
    notes += [f"{len(folded)} batch norms folded into the layers before them"] if folded else []
    notes += [f"{corrected} biases corrected"] if corrected else []
    return tuple(notes)


def _adapted_notes(adapted: dict[str, Adapted]) -> tuple[str, ...]:
    if not adapted:
        return ()
    shares = sorted(a.now / a.nearest for a in adapted.values() if a.nearest > 0)
    middle = shares[len(shares) // 2] if shares else 1.0
    return (
        f"rounding of {len(adapted)} layers adapted to their inputs: squared error × {middle:.2f} (median)",
    )
