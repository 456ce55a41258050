"""Rounding beside the products that use it: XNNPACK multiplies integers where a product's input, weights and
output are rounded with nothing between them but a ReLU.

Steps that give every value by itself commute with reading an array in another shape, and dequantizing
commutes with copying values.
"""

from __future__ import annotations

from dataclasses import replace

from niwaki.deployment.static_graph.network import Array, Network, Step

__all__ = ["round_beside_products"]

_BY_VALUE = ("Relu", "QuantizeLinear")


def round_beside_products(network: Network) -> None:
    """In place; what is computed stays the same to the bit."""
    _views_last(network)
    _resize_integers(network)


def _views_last(network: Network) -> None:
    """view, then ReLU and rounding → ReLU and rounding, then view."""
    uses = network.uses()
    for k, step in enumerate(network.steps):
        name = step.inputs[0] if step.inputs else ""
        if step.op not in _BY_VALUE or name not in network.views:
            continue
        root = network.storage(name)
        if uses[root] != 1 or root in network.constants or root in network.inputs:
            continue
        (out,) = step.outputs
        flat = f"{out}.in its own shape"
        network.arrays[flat] = Array(network.arrays[root].shape, network.arrays[out].dtype)
        network.steps[k] = replace(step, inputs=(root, *step.inputs[1:]), outputs=(flat,))
        network.views[out] = flat


def _resize_integers(network: Network) -> None:
    """Q, DQ, Resize → Q, Resize, DQ, where the nearest values are taken."""
    uses = network.uses()
    made = {o: k for k, step in enumerate(network.steps) for o in step.outputs}
    for k, step in enumerate(network.steps):
        if step.op != "Resize" or step.attributes.get("mode", "nearest") != "nearest":
            continue
        before = made.get(step.inputs[0])
        if before is None or network.steps[before].op != "DequantizeLinear" or uses[step.inputs[0]] != 1:
            continue
        dequantize = network.steps[before]
        (out,), integers = step.outputs, f"{step.outputs[0]}.integers"
        source = network.arrays[dequantize.inputs[0]]
        network.arrays[integers] = Array(network.arrays[out].shape, source.dtype)
        network.steps[before] = Step(
            "Resize", (dequantize.inputs[0], *step.inputs[1:]), (integers,), step.attributes
        )
        network.steps[k] = Step(
            "DequantizeLinear", (integers, *dequantize.inputs[1:]), (out,), dequantize.attributes
        )
