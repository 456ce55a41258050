"""A bundle's graph as a torch module, operator by operator: what converters take that know torch."""

from niwaki.deployment.torch_graph.module import GraphModule
from niwaki.deployment.torch_graph.operators import OPERATORS

__all__ = ["OPERATORS", "GraphModule"]
