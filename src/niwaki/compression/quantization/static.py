"""The step that turns float graphs into int8 graphs, with ranges from real sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.compression.config import QuantizeConfig
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.deployment import count_quantized, quantize_onnx

__all__ = ["quantize"]


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
    Raises NiwakiError where a graph with weights has no quantized operator afterwards.
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
            model_type=config.model_type,
            ignored=config.ignored,
        )
        counts = count_quantized(made[name])
        if counts["total"] and not counts["quantized"]:
            raise NiwakiError(
                f"quantizing changed nothing: no operator of the graph '{name}' computes on integers"
            )
    return made
