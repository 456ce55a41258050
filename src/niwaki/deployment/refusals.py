"""Why a module cannot be exported, in one sentence: what was seen, where, and what to change."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxscript
import torch

from niwaki.core.contract import NiwakiError

__all__ = ["place_of", "refusal"]

_NOT_THEIRS = tuple(str(Path(module.__file__ or "").parent) for module in (torch, onnx, onnxscript)) + (
    str(Path(__file__).parent),
    "<frozen",
    "<string",
    "<eval_with_key>",
)

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)')

_DATA_DEPENDENT = ("data-dependent", "GuardOnDataDependent", "DynamicOutputShape", "unbacked")
_NUMPY = (".numpy() is not supported", "Can't call numpy()", "numpy() on tensor subclass")


def refusal(name: str, error: BaseException, program: Any = None) -> NiwakiError:
    """What is said of a graph that could not be exported.

    error:   what the exporter raised; it wraps whatever the module or torch raised
    program: the captured operators, where it came so far
    """
    head = f"the graph '{name}' cannot be exported"
    text = "\n".join(str(e) for e in _chain(error))
    missing = re.search(r"No ONNX function found for <OpOverload\(op='(\w+)\.(\w+)'", text)
    if missing:
        at = place_of(_node_of(program, missing[2]))
        return NiwakiError(
            f"{head}: ONNX has no form of the operator {missing[2].strip('_')}{at}; "
            "write that line with other operators"
        )
    at = place_of(error)
    if any(words in text for words in _NUMPY):
        return NiwakiError(
            f"{head}: its module leaves torch for numpy{at}; write that line with operators of torch"
        )
    if any(words in text for words in _DATA_DEPENDENT):
        return NiwakiError(
            f"{head}: it decides by the values of a tensor{at}; use torch.where instead of if, and no .item()"
        )
    operator = re.search(r"translating node %?\w+ : .*?target=torch\.ops\.\w+\.(\w+)", text)
    if operator:
        at = place_of(_node_of(program, operator[1]))
        return NiwakiError(
            f"{head}: the operator {operator[1].strip('_')}{at} is used in a way that has no form in ONNX; "
            "write that line with other operators"
        )
    if at:
        seen = _said(error)
        return NiwakiError(f"{head}: its module cannot be followed{at}{seen}; write that line another way")
    return NiwakiError(
        f"{head}: its module cannot be followed{_said(error)}; use tensors and torch's operators in its "
        "forward, and none of Python's own objects that change from call to call"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _said(error: BaseException) -> str:
    """What the innermost error says, where it is about the module and not about the exporter."""
    root = list(_chain(error))[-1]
    line = next((x.strip() for x in str(root).splitlines() if x.strip()), "")
    inner = (
        r"\bFake|[Pp]roxy|Sym(Int|Bool|Node|bolic)|\bfx\b|OpOverload|dispatch|onnx|_C\.|<class|dynamo|\bIR\b"
    )
    if not line or re.search(inner, line):
        return ""
    return f" ({line.rstrip('.')[:200]})"


def _node_of(program: Any, operator: str) -> Any:
    """The captured call of an operator."""
    nodes = () if program is None else program.graph.nodes
    wanted = operator.strip("_")
    return next((n for n in nodes if any(p.endswith(wanted) for p in str(n.target).split("."))), None)


def place_of(what: Any) -> str:
    """` at FILE:LINE (CODE)` of the line of the module that an error or a captured call comes from; empty
    where it is not known."""
    if isinstance(what, torch.fx.Node):
        frames = _FRAME.findall(what.meta.get("stack_trace") or "")
        return _worded([(file, int(line), code) for file, line, code in frames])
    if isinstance(what, BaseException):
        for error in reversed(list(_chain(what))):
            found = [
                (f.filename, f.lineno or 0, f.line or "") for f in traceback.extract_tb(error.__traceback__)
            ]
            said = _worded(found) or _worded(
                [(file, int(line), code) for file, line, code in _FRAME.findall(str(error))]
            )
            if said:
                return said
    return ""


def _worded(frames: list[tuple[str, int, str]]) -> str:
    """The innermost frame that is the module's own."""
    theirs = [f for f in frames if not f[0].startswith(_NOT_THEIRS)]
    inside = [f for f in theirs if "/niwaki/" not in f[0] or "/models/" in f[0] or "/nn/" in f[0]]
    if not inside:
        return ""
    file, line, code = inside[-1]
    shown = f" ({code.strip()[:80]})" if code.strip() else ""
    return f" at {Path(file).name}:{line}{shown}"
