"""Peers that work on the exported float graphs: NNCF's own quantization, and onnxruntime's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compression_rows.artefact import Artefact
from compression_rows.subject import Subject
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.core.contract import GenerativeModel, first_line
from niwaki.deployment.nncf_quiet import quiet_nncf
from niwaki.deployment.onnx_file import read_onnx
from niwaki_runtime.engines import open_graph

__all__ = ["nncf_alone", "nncf_files", "onnxruntime_static"]

CALIBRATION = 300
"""Inputs of each graph, as our own step takes; from the same sampling runs."""
_TYPES = ["Conv", "ConvTranspose", "MatMul", "Gemm"]
Items = Sequence[Mapping[str, np.ndarray]]


def nncf_alone(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """nncf.quantize at its best flags, on openvino, as NNCF's own documentation has it."""
    files, flags = nncf_files(subject.model, subject.graphs, directory, subject)
    made = Artefact("graphs", str(directory), "openvino", files, sampling=str(subject.bundle))
    return made, {"flags": flags}


def nncf_files(
    model: GenerativeModel, graphs: Mapping[str, Path], directory: Path, subject: Subject
) -> tuple[dict[str, str], dict[str, str]]:
    """openvino files of the int8 graphs, and the flags that erred least for each: graph → file, flags."""
    import openvino

    directory.mkdir(parents=True, exist_ok=True)
    seen = calibration_inputs(model, 16 if subject.quick else CALIBRATION)
    files, chosen = {}, {}
    for name, path in graphs.items():
        errors = {}
        for label, flags in _flags(subject):
            with quiet_nncf() as nncf:
                options = {
                    "preset": nncf.QuantizationPreset(flags["preset"]),
                    "fast_bias_correction": flags["fast"],
                    "model_type": nncf.ModelType.TRANSFORMER if flags["transformer"] else None,
                }
                made = nncf.quantize(
                    openvino.Core().read_model(path),
                    nncf.Dataset(list(seen[name])),
                    subset_size=len(seen[name]),
                    **options,
                )
            file = directory / f"{name}-{label}.xml"
            openvino.save_model(made, file)
            errors[label] = _error(path, file, seen[name])
        best = min(errors, key=lambda k: errors[k])
        for label in errors:
            if label != best:
                for suffix in (".xml", ".bin"):
                    (directory / f"{name}-{label}{suffix}").unlink()
        files[name], chosen[name] = f"{name}-{best}.xml", best
    return files, chosen


def _flags(subject: Subject) -> list[tuple[str, dict[str, Any]]]:
    """What is worth trying: both presets, both corrections of biases; for text NNCF's attention patterns."""
    return [
        (f"{preset}-{'fast' if fast else 'full'}", {"preset": preset, "fast": fast, "transformer": text})
        for text in (subject.tokens,)
        for preset in (("mixed",) if text else ("mixed", "performance"))
        for fast in ((True,) if text or subject.quick else (True, False))
    ]


def _error(before: Path, after: Path, items: Items) -> float:
    """Mean |difference| of the outputs over calibration inputs."""
    runs = [open_graph("openvino", p, precision="exact", inputs=list(items[0])) for p in (before, after)]
    total = 0.0
    for item in items[:32]:
        first, second = (_first(run(*item.values())) for run in runs)
        total += float(np.abs(first - second).mean())
    return total


def _first(out: Any) -> np.ndarray:
    return (out[0] if isinstance(out, tuple) else out).astype(np.float64)


def onnxruntime_static(subject: Subject, directory: Path) -> tuple[Artefact, dict[str, Any]]:
    """onnxruntime's quantize_static: Q/DQ, unsigned activations, signed weights per channel; on onnxruntime.

    Of products alone (Conv, ConvTranspose, MatMul, Gemm): with everything else, U-Nets err twice as much.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, items: Items) -> None:
            self.items: Iterator[Mapping[str, np.ndarray]] = iter(items)

        def get_next(self) -> Any:
            return next(self.items, None)

    directory.mkdir(parents=True, exist_ok=True)
    seen = calibration_inputs(subject.model, 16 if subject.quick else CALIBRATION)
    logging.getLogger().setLevel(logging.ERROR)
    files, notes = {}, {}
    for name, path in subject.graphs.items():
        source, notes[name] = _preprocessed(path, directory)
        quantize_static(
            source,
            directory / f"{name}.onnx",
            Reader(seen[name]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_TYPES,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        files[name] = f"{name}.onnx"
        if source != path:
            source.unlink()
    made = Artefact("graphs", str(directory), "onnxruntime", files, sampling=str(subject.bundle))
    return made, {"preprocessing": notes}


def _preprocessed(path: Path, directory: Path) -> tuple[Path, str]:
    """The graph after onnxruntime's own pre-processing, which it recommends; as it is where that fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out, whole = directory / f"{path.stem}-pre.onnx", directory / f"{path.stem}-whole.onnx"
    whole.write_bytes(read_onnx(path).SerializeToString())  # it does not follow weights to another file
    try:
        quant_pre_process(whole, out, skip_symbolic_shape=True)
    except Exception as error:  # its exceptions share no base class
        out.unlink(missing_ok=True)
        return path, f"pre-processing failed: {first_line(error)[:120]}"
    finally:
        whole.unlink()
    return out, "done"
