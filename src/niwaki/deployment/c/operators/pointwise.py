"""Operators that work value by value, and the loop that does several of them in one go (`Map`)."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from niwaki.deployment.c.operators.loops import broadcast_strides, collapsed, index_text, loop_text
from niwaki.deployment.c.operators.operator import Kernel, Pointer, kernel, pointwise
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["literal", "map_lines"]


def literal(value: Any) -> str:
    """A number in C, exact."""
    value = np.asarray(value).reshape(())
    if value.dtype.kind in "iub":
        return str(int(value))
    number = float(np.float32(value))
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    if math.isnan(number):
        return "NAN"
    text = f"{number:.9g}"
    return f"{text if any(c in text for c in '.e') else text + '.0'}f"


def _call(function: str) -> Any:
    return lambda attributes, *x: f"{function}({', '.join(x)})"


for _op, _function in {
    "Tanh": "tanhf", "Sin": "sinf", "Cos": "cosf", "Exp": "expf", "Log": "logf", "Sqrt": "sqrtf",
    "Abs": "fabsf", "Erf": "erff", "Floor": "floorf", "Ceil": "ceilf", "Round": "rintf", "Pow": "powf",
    "Atan": "atanf", "Tan": "tanf", "Sinh": "sinhf", "Cosh": "coshf",
}.items():  # fmt: skip
    pointwise(_op)(_call(_function))

for _op, _sign in {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Equal": "==", "Less": "<", "Greater": ">",
    "LessOrEqual": "<=", "GreaterOrEqual": ">=", "And": "&&", "Or": "||",
}.items():  # fmt: skip
    pointwise(_op)(lambda attributes, a, b, sign=_sign: f"{a} {sign} {b}")


for _op, _form in {
    "Relu": "{0} > 0.0f ? {0} : 0.0f",
    "PRelu": "{0} >= 0.0f ? {0} : {1} * {0}",
    "Sigmoid": "1.0f / (1.0f + expf(-{0}))",
    "Softplus": "({0} > 0.0f ? {0} : 0.0f) + log1pf(expf(-fabsf({0})))",
    "HardSwish": "{0} * fminf(fmaxf({0} / 6.0f + 0.5f, 0.0f), 1.0f)",
    "Neg": "-{0}",
    "Not": "!{0}",
    "Reciprocal": "1.0f / {0}",
    "Sign": "({0} > 0) - ({0} < 0)",
    "Where": "{0} ? {1} : {2}",
}.items():
    pointwise(_op)(lambda attributes, *x, form=_form: form.format(*x))


@pointwise("Max", "Min")
def extreme(attributes: Any, *x: str) -> str:
    sign = ">" if attributes["op"] == "Max" else "<"
    found = x[0]
    for other in x[1:]:
        found = f"({found} {sign} {other} ? {found} : {other})"
    return found


@pointwise("LeakyRelu")
def leaky_relu(attributes: Any, x: str) -> str:
    return f"{x} >= 0.0f ? {x} : {literal(np.float32(attributes.get('alpha', 0.01)))} * {x}"


@pointwise("Elu")
def elu(attributes: Any, x: str) -> str:
    return f"{x} >= 0.0f ? {x} : {literal(np.float32(attributes.get('alpha', 1.0)))} * expm1f({x})"


@pointwise("HardSigmoid")
def hard_sigmoid(attributes: Any, x: str) -> str:
    a, b = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return f"fminf(fmaxf({literal(np.float32(a))} * {x} + {literal(np.float32(b))}, 0.0f), 1.0f)"


@pointwise("Gelu")
def gelu(attributes: Any, x: str) -> str:
    if attributes.get("approximate", "none") == "tanh":
        return f"0.5f * {x} * (1.0f + tanhf(0.797884561f * ({x} + 0.044715f * {x} * {x} * {x})))"
    return f"0.5f * {x} * (1.0f + erff(0.707106781f * {x}))"


@pointwise("Clip")
def clip(attributes: Any, x: str, low: str = "", high: str = "") -> str:
    """The upper bound wins, as numpy has it."""
    found = f"({x} < {low} ? {low} : {x})" if low else x
    return f"{found} > {high} ? {high} : {found}" if high else found


@pointwise("Cast")
def cast(attributes: Any, x: str) -> str:
    return f"({attributes['type']})({x} != 0)" if attributes["to_bool"] else f"({attributes['type']}){x}"


@pointwise("QuantizeLinear")
def quantize(attributes: Any, x: str, scale: str, zero: str = "0") -> str:
    """saturate(round(x / scale) + zero), halves to the even number."""
    low, high = attributes["range"]
    return f"niwaki_quantize({x}, {scale}, {zero}, {low}, {high})"


@pointwise("DequantizeLinear")
def dequantize(attributes: Any, x: str, scale: str, zero: str = "0") -> str:
    return f"(float)({x} - {zero}) * {scale}" if zero not in ("0", "") else f"(float){x} * {scale}"


def map_lines(step: Step, loads: list[str], store: str) -> str:
    """The statements of a map: `loads` are what its operands are, `store` takes the result."""
    names = {f"a{k}": text for k, text in enumerate(loads)}
    lines = []
    for k, (kind, expression) in enumerate(step.attributes["lines"]):
        text = re.sub(r"\ba\d+\b", lambda m: names[m[0]], expression)
        last = k + 1 == len(step.attributes["lines"])
        lines.append(f"{store} = ({kind})({text});" if last else f"const {kind} v{k} = ({kind})({text});")
    return "\n".join(lines)


@kernel("Map", overwrites=True, internal=True)
def map_kernel(step: Step, network: Network) -> Kernel:
    shapes = step.attributes["shapes"]
    strides = [broadcast_strides(shape, step.attributes["shape"]) for shape in shapes]
    whole = broadcast_strides(step.attributes["shape"], step.attributes["shape"])
    dims, (to, *reads) = collapsed(step.attributes["shape"], whole, *strides)
    loads, head = [], []
    for k, (name, read) in enumerate(zip(step.inputs, reads, strict=True)):
        kind = C_TYPES[network.arrays[name].dtype]
        head.append(f"const {kind} a{k} = x{k}[{index_text(read)}];")
        loads.append(f"a{k}")
    body = "\n".join([*head, map_lines(step, loads, f"y0[{index_text(to)}]")])
    pointers = [Pointer(f"x{k}", name) for k, name in enumerate(step.inputs)]
    return Kernel("map", loop_text(dims, body), (*pointers, Pointer("y0", step.outputs[0], writes=True)))
