"""Inference engines, by name. The first one registered is the one that `auto` prefers."""

from niwaki_runtime.engines import onnxruntime, openvino  # noqa: F401  (in order of preference)
from niwaki_runtime.engines.base import GraphRunner, available, open_graph, resolve_engine

__all__ = ["GraphRunner", "available", "open_graph", "resolve_engine"]
