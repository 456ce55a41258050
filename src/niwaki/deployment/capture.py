"""From a module to the list of its operators (`torch.export`), for every batch or not at all.

torch's own exporter to ONNX fixes what it was asked to leave free where a module branches on it, and says
nothing: the branch of the example is then taken for all batches. So the module is captured here, and every
condition on the batch that was met on the way is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram
from torch.fx.experimental import _config

from niwaki.core.contract import Graph, NiwakiError
from niwaki.core.random_operators import draws_noise
from niwaki.deployment.refusals import place_of

__all__ = ["capture"]

_MOST = 4096  # samples; conditions that only larger batches break are torch's own (numbers of 32 bits)


class _Call(nn.Module):
    """A graph's module with positional inputs and a flat tuple of outputs, whatever it returns itself."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        out = self.wrapped(*inputs)
        return tuple(out) if isinstance(out, tuple | list) else (out,)


def capture(name: str, graph: Graph, module: nn.Module) -> ExportedProgram:
    """The operators of `graph` with the weights of `module`, its batch axes free.

    Raises NiwakiError where the module does something else at another batch, or draws noise; whatever torch
    raises where it cannot follow the module.
    """
    axes = [port.batch_axis for port in graph.inputs] + [s.batch_axis for s in graph.state]
    # Three samples: one would be taken for a constant, and two is a common width of something else.
    example = tuple(x.cpu().clone() for x in graph.example(3))
    call = _Call(module).eval()
    try:
        program = _followed(call, example, axes, strict=False)
    except Exception as error:
        refused = _branch(name, error)
        if refused is not None:
            raise refused from error
        try:
            program = _followed(call, example, axes, strict=True)
        except Exception:
            raise error from None  # the first way says more, in the module's own lines
    _refuse_conditions(name, program)
    _refuse_noise(name, program)
    return program


def _followed(
    call: nn.Module, example: tuple[Tensor, ...], axes: Sequence[int | None], *, strict: bool
) -> ExportedProgram:
    """One try; again with narrower limits, where torch asks for ones that no batch meets."""
    limits: dict[str, int] = {}
    for last in (False, True):
        batch = torch.export.Dim("batch", **limits)
        free = tuple(None if axis is None else {axis: batch} for axis in axes)
        with (
            _recurrent_layers(),
            _batch_of_one(),
        ):
            try:
                return torch.export.export(
                    call,
                    example,
                    dynamic_shapes=(free,),
                    strict=strict,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            except UserError as error:
                limits = _limits(str(error))
                harmless = limits and limits.get("min", 0) <= 2 and limits.get("max", _MOST) >= _MOST
                if last or not harmless:
                    raise
    raise AssertionError("unreachable")


@contextmanager
def _recurrent_layers() -> Iterator[None]:
    """LSTM and GRU as loops of ONNX, as torch's exporter has them."""
    try:
        from torch.export._patches import (
            register_gru_while_loop_decomposition,
            register_lstm_while_loop_decomposition,
        )
    except ImportError:  # an older torch
        yield
        return
    with register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        yield


def _batch_of_one() -> Any:
    """A batch of one is like any other, not a number of its own."""
    config: Any = _config
    return config.patch(backed_size_oblivious=True)


def _limits(text: str) -> dict[str, int]:
    """What torch suggests for the batch: `batch = Dim('batch', max=4)`."""
    found = re.search(r"batch = Dim\('batch'((?:, (?:min|max)=\d+)+)\)", text)
    return {k: int(v) for k, v in re.findall(r"(min|max)=(\d+)", found[1])} if found else {}


def _branch(name: str, error: Exception) -> NiwakiError | None:
    """What is said of a module that torch can follow for some batches only; None for any other error."""
    text = str(error)
    limits = _limits(text)
    if limits:
        seen = " and ".join(
            f"{'up to' if k == 'max' else 'from'} {v} samples" for k, v in sorted(limits.items())
        )
        return NiwakiError(
            f"the graph '{name}' cannot be exported: its module does one thing with batches of {seen} and "
            f"another with the rest{place_of(error)}; let it do the same for every batch"
        )
    if "Constraints violated" in text or "specializ" in text or "Specializations" in text:
        return NiwakiError(
            f"the graph '{name}' cannot be exported: its module only works for the batch it was tried "
            f"with{place_of(error)}; use x.shape[0] rather than a number, len(x), a loop over samples or "
            "chunks of the batch"
        )
    return None


def _refuse_conditions(name: str, program: ExportedProgram) -> None:
    """Conditions on the batch that the example met: they must hold for all batches. (That of one sample is
    tried out when the file is checked: torch itself asks for it where shapes are broadcast.)"""
    for node in program.graph.nodes:
        if node.target is not torch.ops.aten._assert_scalar.default:
            continue
        value = node.args[0].meta.get("val") if isinstance(node.args[0], torch.fx.Node) else None
        expression = value.node.expr if isinstance(value, torch.SymBool) else None
        symbols: list[Any] = list(getattr(expression, "free_symbols", ()))
        if expression is None or len(symbols) != 1 or not str(symbols[0]).startswith("s"):
            continue
        for n in (*range(2, 130), 256, 512, 1000, 1024, _MOST):
            if expression.subs(symbols[0], n) == False:  # noqa: E712 - sympy's own False
                raise NiwakiError(
                    f"the graph '{name}' cannot be exported: its module does something else with {n} samples "
                    f"than with 3{place_of(node)}; let it do the same for every batch"
                )


def _refuse_noise(name: str, program: ExportedProgram) -> None:
    """A file that draws its own noise would make other samples at every call."""
    for node in program.graph.nodes:
        if node.op == "call_function" and draws_noise(node.target, node.args, node.kwargs):
            operator = str(node.target).removeprefix("aten.").partition(".")[0]
            raise NiwakiError(
                f"the graph '{name}' cannot be exported: its module draws noise itself "
                f"({operator}{place_of(node)}), so that no sample could be made twice; hand the noise in as "
                "an input, as adapt(…, noise='input') does"
            )
