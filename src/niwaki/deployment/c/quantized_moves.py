"""Bytes are moved in the place of floats: quantizers go before, dequantizers after what only moves values."""

from __future__ import annotations

from niwaki.deployment.c.operators.movement import MOVING
from niwaki.deployment.static_graph.network import Array, Network, Step

__all__ = ["move_bytes"]


def move_bytes(network: Network) -> None:
    """Equal values: what moves does not ask what it moves, and one scale is that of all of them."""
    changed = True
    while changed:
        changed = _dequantize_later(network) or _quantize_earlier(network)


def _by_one_scale(step: Step, network: Network) -> bool:
    scale = network.constants.get(step.inputs[1])
    return scale is not None and scale.size == 1


def _dequantize_later(network: Network) -> bool:
    """move(dequantize(q)) → dequantize(move(q))"""
    makers = {o: s for s in network.steps for o in s.outputs}
    for place, step in enumerate(network.steps):
        maker = makers.get(network.storage(step.inputs[0])) if step.op in MOVING else None
        if maker is None or maker.op != "DequantizeLinear" or not _by_one_scale(maker, network):
            continue
        bytes_, out = f"{step.inputs[0]}.stored", f"{step.outputs[0]}.stored"
        kind = network.arrays[maker.inputs[0]].dtype
        network.arrays[bytes_] = Array(network.arrays[step.inputs[0]].shape, kind)
        network.views[bytes_] = maker.inputs[0]
        network.arrays[out] = Array(network.arrays[step.outputs[0]].shape, kind)
        moved = Step(step.op, (bytes_, *step.inputs[1:]), (out,), step.attributes)
        after = Step(maker.op, (out, *maker.inputs[1:]), step.outputs, maker.attributes)
        network.steps[place : place + 1] = [moved, after]
        network.remove_unused()
        return True
    return False


def _quantize_earlier(network: Network) -> bool:
    """quantize(move(x)) → move(quantize(x)), where nobody else reads what was moved."""
    uses, makers = network.uses(), {o: s for s in network.steps for o in s.outputs}
    for place, step in enumerate(network.steps):
        if step.op != "QuantizeLinear" or not _by_one_scale(step, network):
            continue
        root = network.storage(step.inputs[0])
        mover = makers.get(root)
        if mover is None or mover.op not in MOVING or uses[root] != 1:
            continue
        kind = network.arrays[step.outputs[0]].dtype
        early, late = f"{mover.inputs[0]}.early", f"{step.outputs[0]}.moved"
        network.arrays[early] = Array(network.arrays[mover.inputs[0]].shape, kind)
        network.arrays[late] = Array(network.arrays[mover.outputs[0]].shape, kind)
        before = Step(step.op, (mover.inputs[0], *step.inputs[1:]), (early,), step.attributes)
        after = Step(mover.op, (early, *mover.inputs[1:]), (late,), mover.attributes)
        network.views[step.outputs[0]] = late
        at = network.steps.index(mover)
        del network.steps[place]
        network.steps[at : at + 1] = [before, after]
        return True
    return False
