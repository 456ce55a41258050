"""What a sampler does besides arithmetic: it draws noise, and calls networks."""

from __future__ import annotations

from niwaki.deployment.c.operators.operator import Kernel, Pointer, kernel
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["call", "normal"]


@kernel("Normal", internal=True)
def normal(step: Step, network: Network) -> Kernel:
    """Standard normals of the sample that is made (`niwaki_runtime.noise`)."""
    size = network.arrays[step.outputs[0]].size
    stream, draw = step.attributes["stream"], step.attributes["draw"]
    body = f"niwaki_normal(seed, index, {stream}u, {draw}u, {size}, {{y0}});"
    return Kernel("normal", body, (Pointer("y0", step.outputs[0], writes=True),), inline=True)


@kernel("Call", internal=True)
def call(step: Step, network: Network) -> Kernel:
    """A network, with the memory that it works in as its last argument."""
    reads = [Pointer(f"x{k}", name) for k, name in enumerate(step.inputs)]
    writes = [Pointer(f"y{k}", name, writes=True) for k, name in enumerate(step.outputs)]
    names = ", ".join(f"{{{p.name}}}" for p in (*reads, *writes))
    body = f"{step.attributes['network']}({names});"
    return Kernel("call", body, (*reads, *writes), inline=True)
