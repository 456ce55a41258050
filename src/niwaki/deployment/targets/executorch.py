"""executorch for phones: a program for each graph, with XNNPACK where it takes an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import NiwakiError
from niwaki.deployment.executorch.moves import round_beside_products
from niwaki.deployment.executorch.program import LoadedProgram, Lowered, lower
from niwaki.deployment.static_graph.converted import Converted, Execute
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.targets.per_graph import PerGraphTarget
from niwaki.deployment.targets.target import register_target
from niwaki.deployment.torch_graph import GraphModule

__all__ = ["ExecutorchTarget"]


@register_target("executorch")
class ExecutorchTarget(PerGraphTarget):
    """NAME.pte for each graph; of each, which operators are delegated."""

    suffix = "-executorch"
    needs, runtime = ("executorch",), "executorch.runtime"

    def convert(self, network: Network, options: Mapping[str, Any]) -> Converted:
        round_beside_products(network)
        lowered, floats = _lowered_on_integers(network)
        record = {
            "weights_on_integers": [len(network.quantized) - len(floats), len(network.quantized)],
            "delegated": lowered.delegated,
            "portable": lowered.portable,
        }
        return Converted({f"{network.name}.pte": lowered.data}, record)

    def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
        return LoadedProgram(*files.values())

    def line(self, name: str, graph: Mapping[str, Any]) -> str:
        done, left = (sum(graph[side].values()) for side in ("delegated", "portable"))
        rest = f"; by portable kernels {', '.join(graph['portable'])}" if left else ""
        return f"{super().line(name, graph)}, {done} of {done + left} operators by XNNPACK{rest}"


def _lowered_on_integers(network: Network) -> tuple[Lowered, set[str]]:
    """The program, and the weights on integers that it holds as floats: where no kernel multiplies with them,
    and all of them where a mixture is more than executorch can take."""
    floats: set[str] = set()
    while True:
        module = GraphModule(network, floats).eval()
        try:
            lowered = lower(module, module.zeros(), network.name)
        except NiwakiError:
            if not floats or floats == set(network.quantized):
                raise
            floats = set(network.quantized)
            continue
        if not lowered.left:
            return lowered, floats
        floats |= {known for known, place in module.held.items() if place in lowered.left}
