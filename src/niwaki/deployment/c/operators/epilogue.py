"""What sums of products share: the type of the sum, its scale and bias, and what is done with it at once."""

from __future__ import annotations

from collections.abc import Callable

from niwaki.deployment.c.operators.pointwise import map_lines
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["accumulator", "stored"]


def accumulator(
    step: Step, network: Network
) -> tuple[str, Callable[[str, str], str], Callable[[str, str], str]]:
    """The C type of a sum, (x, w) → what is added, and (sum, channel) → its value as a float.

    Bytes times bytes are added in 32 bits, exactly; their scales are multiplied once, at the end.
    """
    scale, bias = step.attributes.get("scale"), step.attributes.get("bias")
    x_zero = step.attributes.get("x_zero")
    integers = x_zero is not None

    def term(x: str, w: str) -> str:
        if integers:
            return f"({x} - {x_zero}) * {w}" if x_zero else f"{x} * {w}"
        return f"{x} * (float){w}" if scale is not None else f"{x} * {w}"

    def total(name: str, channel: str) -> str:
        text = f"(float){name}" if integers else name
        if scale is not None:
            text += f" * scale[{channel}]" if scale.size > 1 else " * scale[0]"
        return text + (f" + bias[{channel}]" if bias is not None else "")

    return ("int32_t" if integers else "float"), term, total


def stored(step: Step, value: str, place: str, indent: int) -> str:
    """The statements that store a value, with what `fuse` put after it."""
    after = step.attributes.get("epilogue")
    if after is None:
        lines = [f"{place} = {value};"]
    else:
        lines = [f"const float sum_ = {value};", *map_lines(after, ["sum_"], place).splitlines()]
    return "".join(f"{' ' * indent}{line}\n" for line in lines)
