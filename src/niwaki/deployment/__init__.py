"""From the workshop to the device: export, int8, packaging, and figures taken on the engine."""

from niwaki.deployment.counting import count_quantized
from niwaki.deployment.export import export_graphs
from niwaki.deployment.package import bundle_bytes, package
from niwaki.deployment.quantize_onnx import quantize_onnx

__all__ = ["bundle_bytes", "count_quantized", "export_graphs", "package", "quantize_onnx"]
