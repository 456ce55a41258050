"""Static int8: NNCF on the ONNX graph, then a file that both engines run and that really is smaller."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from niwaki.core.contract import CallError, NiwakiError, first_line, nearest
from niwaki.core.store import write_bytes
from niwaki.deployment.counting import count_quantized, quantized_nodes, weighted_nodes
from niwaki.deployment.integers import (
    quantize_embeddings,
    store_integers,
    symmetric_inputs,
    unsigned_activations,
)
from niwaki.deployment.nncf_quiet import quiet_nncf
from niwaki.deployment.onnx_file import producers, read_onnx, strip

__all__ = ["PRESETS", "quantize_onnx"]

PRESETS = ("mixed", "performance")
"""`mixed`: activations with a zero point (SiLU, GELU); `performance`: symmetric ones, right after ReLU."""

_MODEL_TYPES = (None, "transformer")


def quantize_onnx(
    path_in: Path | str,
    path_out: Path | str,
    calibration: Iterable[Mapping[str, np.ndarray]],
    *,
    model_type: str | None = None,
    preset: str = "mixed",
    ignored: Iterable[str] = (),
    fast_bias_correction: bool = True,
    attention: bool = False,
    embeddings: bool = True,
) -> dict[str, Any]:
    """Quantize the ONNX file `path_in` to int8 weights and activations, written to `path_out` as Q/DQ.

    calibration: inputs by name, as the graph meets them while sampling (all of them are used, batches of any
                 size)
    model_type:  `transformer` for NNCF's SmoothQuant and attention patterns
    ignored:     operators to leave in float: their node names, or the names of their modules (`net.2`)
    attention:   also multiply activations with activations in int8; openvino 2026.4 computes these products
                 in float all the same, only with more conversions around them
    embeddings:  store large embedding tables in int8, too
    Returns counts (`count_quantized`), `bytes_before`, `bytes_after` (graph and weights in memory),
    `seconds`. Raises CallError for a wrong argument, NiwakiError where nothing could be quantized or a weight
    stayed float.
    """
    if preset not in PRESETS:
        raise CallError(f"there is no quantization preset '{preset}'; {nearest(preset, PRESETS)}")
    if model_type not in _MODEL_TYPES:
        raise CallError(
            f"there is no model type '{model_type}' for quantization; use 'transformer' or nothing"
        )
    model = read_onnx(path_in)
    items = _checked(model, calibration)
    skip = _names(model, ignored) + ([] if attention else _products(model))
    started = time.perf_counter()
    with quiet_nncf() as nncf:
        try:
            made = nncf.quantize(
                model,
                nncf.Dataset(items),
                preset=nncf.QuantizationPreset(preset),
                model_type=nncf.ModelType(model_type) if model_type else None,
                subset_size=len(items),
                fast_bias_correction=fast_bias_correction,
                ignored_scope=nncf.IgnoredScope(names=skip, validate=False) if skip else None,
            )
        except Exception as error:  # NNCF raises whatever its engine raised
            raise NiwakiError(f"{path_in} cannot be quantized: {first_line(error)}") from error
    store_integers(made)
    symmetric_inputs(made)
    unsigned_activations(made)
    if embeddings:
        quantize_embeddings(made)
    counts = count_quantized(made)
    _verify(made, counts, path_in)
    onnx.checker.check_model(strip(made))
    write_bytes(Path(path_out), made.SerializeToString(deterministic=True))
    return {
        **counts,
        "bytes_before": model.ByteSize(),
        "bytes_after": made.ByteSize(),
        "seconds": time.perf_counter() - started,
    }


def _checked(
    model: onnx.ModelProto, calibration: Iterable[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Calibration items with exactly the graph's inputs, in its types."""
    declared = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    items = []
    for item in calibration:
        for name in item:
            if name not in declared:
                raise CallError(f"the graph has no input '{name}' to calibrate; {nearest(name, declared)}")
        for name in declared:
            if name not in item:
                raise CallError(f"the calibration data lacks the graph's input '{name}'")
        items.append(
            {n: np.asarray(item[n], onnx.helper.tensor_dtype_to_np_dtype(t)) for n, t in declared.items()}
        )
    if not items:
        raise CallError("quantization needs calibration data, and there is none")
    return items


def _names(model: onnx.ModelProto, ignored: Iterable[str]) -> list[str]:
    """Node names of the operators to leave alone, from node names or names of modules."""
    found: list[str] = []
    nodes = weighted_nodes(model)
    for wanted in ignored:
        hits = [
            n.name
            for n in nodes
            if n.name == wanted or any(v == wanted or v.startswith(f"{wanted}.") for v in n.input[1:])
        ]
        if not hits:
            known = [n.name for n in nodes] + [n.input[1].removesuffix(".weight") for n in nodes]
            raise CallError(f"there is no operator '{wanted}' to leave in float; {nearest(wanted, known)}")
        found += hits
    return found


def _products(model: onnx.ModelProto) -> list[str]:
    """MatMuls of two activations: queries with keys, weights with values."""
    held = {n.name for n in weighted_nodes(model)}
    return [n.name for n in model.graph.node if n.op_type == "MatMul" and n.name not in held]


def _verify(model: onnx.ModelProto, counts: Mapping[str, int], path: Path | str) -> None:
    if counts["quantized"] == 0:
        raise NiwakiError(
            f"quantization changed none of the {counts['total']} weighted operators of {path}; "
            "leave the step out, or ignore fewer operators"
        )
    made_by = producers(model)
    stored = {t.name for t in model.graph.initializer}
    for node in quantized_nodes(model):
        for value in node.input[1:2]:
            source = made_by.get(value)
            if source is not None and source.op_type == "DequantizeLinear":
                integers = made_by.get(source.input[0])
                constant = integers is None or (
                    integers.op_type == "QuantizeLinear" and integers.input[0] in stored
                )
                if constant and source.input[0] not in stored:
                    raise NiwakiError(
                        f"the weight of '{node.name}' in {path} was quantized but stayed float in the file"
                    )
