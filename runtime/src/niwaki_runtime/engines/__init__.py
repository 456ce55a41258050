"""Inference engines, by name. The first one registered is the one that `auto` prefers."""

from niwaki_runtime.engines.base import GraphRunner, available, open_graph, resolve_engine

from niwaki_runtime.engines import openvino, onnxruntime  # noqa: F401, I001  (registers them, in order of preference)

__all__ = ["GraphRunner", "available", "open_graph", "resolve_engine"]
