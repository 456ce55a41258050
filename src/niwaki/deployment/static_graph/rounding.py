"""Rounding as arithmetic on floats: for formats that know no quantized arrays, or know others.

A byte u with scale s and zero point z means s · (u − z). Whole numbers of that size are exact in float32, so
that nothing is lost but the bytes.
"""

from __future__ import annotations

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.network import Array, Network, Step

__all__ = ["round_on_floats"]


def round_on_floats(network: Network) -> None:
    """In place: QuantizeLinear and DequantizeLinear become division, rounding, clipping and products, and all
    that lies between them is in float32. Raises NiwakiError where a grid is not one of bytes for all values.
    """
    bytes_at = {o for step in network.steps if step.op == "QuantizeLinear" for o in step.outputs}
    steps: list[Step] = []
    for step in network.steps:
        if any(network.storage(i) in bytes_at for i in step.inputs[:1]) and step.op != "DequantizeLinear":
            bytes_at.update(step.outputs)  # bytes that are moved
        if step.op not in ("QuantizeLinear", "DequantizeLinear"):
            steps.append(step)
            continue
        scale, zero, low, high = _grid(network, step)
        (source, *_), (out,) = step.inputs, step.outputs
        if step.op == "QuantizeLinear":
            chain = [("Div", (scale,)), ("Round", ()), ("Add", (zero,)), ("Clip", (low, high))]
        else:
            chain = [("Sub", (zero,)), ("Mul", (scale,))]
        if not zero:
            chain = [(op, numbers) for op, numbers in chain if op not in ("Add", "Sub")]
        steps += _chain(network, source, out, chain)
    network.steps[:] = steps
    for name, array in network.arrays.items():
        if network.storage(name) in bytes_at:
            network.arrays[name] = Array(array.shape)


def _chain(network: Network, source: str, out: str, chain: list[tuple[str, tuple[float, ...]]]) -> list[Step]:
    """Steps one after another, each with its numbers as constants."""
    steps = []
    for k, (op, numbers) in enumerate(chain):
        names: list[str] = []
        for number in numbers:
            name = f"{out}.{op}.{len(names)}"
            network.constants[name] = np.array(number, np.float32)
            network.arrays[name] = Array(())
            names.append(name)
        made = out if k == len(chain) - 1 else f"{out}.{op}"
        network.arrays[made] = Array(network.arrays[out].shape)
        steps.append(Step(op, (source, *names), (made,)))
        source = made
    return steps


def _grid(network: Network, step: Step) -> tuple[float, float, float, float]:
    """Scale, zero point, and the ends of its bytes."""
    scale = network.constants[step.inputs[1]]
    zero = network.constants[step.inputs[2]] if len(step.inputs) > 2 else np.zeros((), np.uint8)
    if scale.size != 1 or zero.dtype not in (np.int8, np.uint8):
        raise NiwakiError(
            f"the graph '{network.name}' rounds activations to {zero.dtype} by {scale.size} scales; "
            "what can be carried is bytes by one"
        )
    ends = np.iinfo(zero.dtype)
    return float(scale.reshape(())), float(zero.reshape(())), float(ends.min), float(ends.max)
