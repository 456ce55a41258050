"""The path from data to noise, x_t = α_t x₀ + σ_t ε: plain data that the loss, the sampler, distillation and
calibration read alike."""

from niwaki_runtime.process.base import END, Process, process_from_json
from niwaki_runtime.process.karras import Karras
from niwaki_runtime.process.linear import LinearPath
from niwaki_runtime.process.variance_preserving import VariancePreserving

__all__ = ["END", "Karras", "LinearPath", "Process", "VariancePreserving", "process_from_json"]
