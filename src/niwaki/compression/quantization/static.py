"""The step that turns float graphs into int8 graphs, with ranges from real sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.compression.config import QuantizeConfig
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.errors import NothingToDo
from niwaki.deployment import count_quantized, quantize_onnx
from niwaki.deployment.onnx_file import read_onnx

__all__ = ["holds_attention", "quantize"]

_MOVES = ("Cast", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


def quantize(
    model: GenerativeModel,
    graphs: dict[str, Path],
    directory: Path,
    config: QuantizeConfig,
    *,
    condition: Any = None,
) -> dict[str, Path]:
    """Static int8 files of the exported `graphs` of `model`, in `directory`.

    condition: what calibration samples are asked for; None is the classes in turn
    Raises NothingToDo where no graph has a quantized operator afterwards (`unquantized` names single ones).
    """
    seen = calibration_inputs(model, config.calibration, seed=config.seed, condition=condition)
    made = {}
    for name, path in graphs.items():
        if name not in seen:
            raise NiwakiError(f"sampling never called the graph '{name}', so it cannot be calibrated")
        made[name] = directory / path.name
        quantize_onnx(
            path,
            made[name],
            seen[name],
            preset=config.preset,
            model_type=_model_type(config, path),
            ignored=config.ignored,
        )
    if made and len(floats := unquantized(made)) == len(made):
        raise NothingToDo(
            f"quantizing changed nothing: no operator of the graph '{floats[0]}' computes on integers"
        )
    return made


def unquantized(graphs: Mapping[str, Path]) -> list[str]:
    """Names of the graphs that have operators with weights, and none of them on integers."""
    counts = {name: count_quantized(path) for name, path in graphs.items()}
    return [name for name, found in counts.items() if found["total"] and not found["quantized"]]


def _model_type(config: QuantizeConfig, path: Path) -> str | None:
    """As asked, else `transformer` where the graph holds attention: without it a language model loses nearly
    all, for a few features of its inputs are a hundred times as large as the others (Xiao et al.,
    "SmoothQuant", 2023)."""
    kind = config.model_type or ("transformer" if holds_attention(path) else "plain")
    return None if kind == "plain" else kind


def holds_attention(path: Path) -> bool:
    """Whether a softmax of this graph weighs other values in a product, at most moved in between."""
    nodes = read_onnx(path).graph.node
    weights = {out for node in nodes if node.op_type == "Softmax" for out in node.output}
    for node in nodes:  # in the order of computation
        if weights & set(node.input):
            if node.op_type in ("MatMul", "Einsum"):
                return True
            if node.op_type in _MOVES:
                weights |= set(node.output)
    return False
