"""Convolutions with a kernel for every sample, in a form that ONNX has.

torch computes them with the batch as groups (weight modulation: Karras et al. 2020, "Analyzing and Improving
the Image Quality of StyleGAN", Section 2.2; kernels by attention; dynamic filters). ONNX fixes the number of
groups. Where the kernel is one for all samples, scaled per sample and channel, w_b = W · s_b(in) · d_b(out),
the convolution is linear in both, so that exactly

    conv(x_b, w_b) = d_b · conv(s_b · x_b, W),      Σ w_b² over (in, k) = d_b² · (s_b² · Σ_k W²)

and one convolution serves all. Any other kernel is multiplied with the patches that it meets, one matrix
product per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Node

from niwaki.core.contract import NiwakiError
from niwaki.deployment.graph_writer import Writer, arguments_of, aten, shape_of
from niwaki.deployment.kernel_factors import cheaper_square_sum, kernel_factors
from niwaki.deployment.kernel_forms import Geometry, patch_products, shared_kernel
from niwaki.deployment.refusals import place_of

__all__ = ["without_batch_groups"]

_CONVOLUTIONS = {
    aten.conv1d.default: False,
    aten.conv2d.default: False,
    aten.conv3d.default: False,
    aten.conv1d.padding: False,
    aten.conv2d.padding: False,
    aten.conv3d.padding: False,
    aten.conv_transpose1d.default: True,
    aten.conv_transpose2d.input: True,
    aten.conv_transpose3d.input: True,
}
"""Operator → whether it is transposed."""


def without_batch_groups(name: str, program: ExportedProgram) -> ExportedProgram:
    """The same program with every convolution whose groups follow the batch in another, exact form.

    Raises NiwakiError where such a convolution cannot be written.
    """
    if not _found(program):
        return program
    program = program.run_decompositions({})  # nothing is written in place any more
    for conv in _found(program):
        _rewrite(name, program, conv)
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        cheaper_square_sum(program, node)
    graph.eliminate_dead_code()
    graph.lint()
    program.graph_module.recompile()
    return program


def _found(program: ExportedProgram) -> list[Node]:
    return [
        node
        for node in program.graph.nodes
        if node.target in _CONVOLUTIONS and isinstance(arguments_of(node).get("groups", 1), Node)
    ]


def _rewrite(name: str, program: ExportedProgram, conv: Node) -> None:
    given, write = arguments_of(conv), Writer(program, conv)
    x, weight = given["input"], given["weight"]
    kernel = shape_of(weight)[2:]
    if len(shape_of(x)) != len(kernel) + 2:
        raise NiwakiError(
            f"the graph '{name}' cannot be exported: a convolution with groups for every "
            f"sample{place_of(conv)} has an input without a batch axis; give it one of size 1"
        )
    rows, first, second, size = (
        shape_of(x)[0],
        _per_group(given, weight),
        *shape_of(weight)[1:2],
        shape_of(x)[2:],
    )
    if rows is None or None in size or first is None or second is None:
        raise NiwakiError(
            f"the graph '{name}' cannot be exported: a convolution{place_of(conv)} has groups that follow "
            "the batch, and rows or places that follow it too; fold the batch into the channels alone"
        )
    form = _geometry(conv, given, first, second, kernel)
    alone = write(aten.reshape.default, x, [-1, form.into, *size])  # (rows · groups, in, *size)
    parts = kernel_factors(weight, first)
    if parts is not None and (rows == 1 or not any(parts[0].scales.values())):
        made = shared_kernel(write, alone, *parts, form)
    else:
        made = patch_products(write, alone, weight, rows, form)
    if given.get("bias") is not None:
        bias = write(aten.reshape.default, given["bias"], [-1, form.out] + [1] * len(kernel))
        if rows != 1:
            made = write(aten.reshape.default, made, [rows, -1, *shape_of(made)[1:]])
        made = write(aten.add.Tensor, made, bias)
    places = shape_of(made)[-len(kernel) :]
    conv.replace_all_uses_with(write(aten.reshape.default, made, [rows, -1, *places]))
    program.graph_module.graph.erase_node(conv)


def _geometry(
    conv: Node, given: dict[str, Any], first: int, second: int, kernel: tuple[int, ...]
) -> Geometry:
    transposed = _CONVOLUTIONS[conv.target]  # type: ignore[index]
    into, out = (first, second) if transposed else (second, first)
    stride, dilation, extra = (
        _each(given.get(key, usual), len(kernel))
        for key, usual in (("stride", 1), ("dilation", 1), ("output_padding", 0))
    )
    padding = _padding(given.get("padding", 0), kernel, dilation)
    return Geometry(into, out, kernel, stride, padding, dilation, extra, transposed)


def _per_group(given: dict[str, Any], weight: Node) -> int | None:
    """The first axis of the weight over the number of groups; None where that follows the batch."""
    quotient = weight.meta["val"].shape[0] // given["groups"].meta["val"]
    number = quotient if isinstance(quotient, int) else quotient.node.maybe_as_int()
    return None if number is None else int(number)


def _each(value: Any, across: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(int(v) for v in values) * (across if len(values) == 1 else 1)


def _padding(value: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Zeros before and after, along each axis."""
    if value == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((r // 2, r - r // 2) for r in reach)
    return tuple((p, p) for p in _each(0 if value == "valid" else value, len(kernel)))
