"""Inference engines, by name."""

from niwaki_runtime.engines import onnxruntime, openvino  # noqa: F401  (registers them)
from niwaki_runtime.engines.base import (
    GraphRunner,
    available,
    engine_memory,
    known_engines,
    open_graph,
    resolve_engine,
)

__all__ = ["GraphRunner", "available", "engine_memory", "known_engines", "open_graph", "resolve_engine"]
