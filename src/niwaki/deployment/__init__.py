"""From the workshop to the device: export, int8, packaging, and figures taken on the engine."""

from niwaki.deployment.counting import count_quantized
from niwaki.deployment.export import export_graphs
from niwaki.deployment.measure import (
    Measurement,
    machine,
    measure_bundle,
    measure_model,
    measure_steadily,
    measure_together,
)
from niwaki.deployment.package import bundle_bytes, package
from niwaki.deployment.parity import parity, record_calls
from niwaki.deployment.quantize_onnx import quantize_onnx
from niwaki.deployment.repack import pack_bundle
from niwaki.deployment.runtime_graph import count_executed
from niwaki.deployment.timing import Latency, interleave

__all__ = [
    "Latency",
    "Measurement",
    "bundle_bytes",
    "count_executed",
    "count_quantized",
    "export_graphs",
    "interleave",
    "machine",
    "measure_bundle",
    "measure_model",
    "measure_steadily",
    "measure_together",
    "pack_bundle",
    "package",
    "parity",
    "quantize_onnx",
    "record_calls",
]
