"""Convolutions over one or two axes, and transposed ones."""

from __future__ import annotations

from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.operators.epilogue import accumulator, stored
from niwaki.deployment.c.operators.operator import Kernel, attribute, kernel
from niwaki.deployment.c.operators.products import product_pointers
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["convolution", "transposed"]


def _geometry(step: Step, network: Network) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and the padding before, of two axes. Raises NiwakiError for other ranks."""
    rank = len(network.arrays[step.inputs[0]].shape)
    if rank not in (3, 4):
        raise NiwakiError(f"{step.op} over {rank - 2} axes has no form in C; one and two axes have")
    n = rank - 2
    if attribute(step, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NiwakiError(f"{step.op} with auto_pad has no form in C; write its padding as numbers")
    strides = list(attribute(step, "strides", [1] * n))
    dilations = list(attribute(step, "dilations", [1] * n))
    pads = list(attribute(step, "pads", [0] * 2 * n))[:n]
    if n == 1:
        return [1, *strides], [1, *dilations], [0, *pads]
    return strides, dilations, pads


def _planes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height, width of `(1, C, W)` or `(1, C, H, W)`."""
    return (shape[1], 1, shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])


def _sizes(step: Step, network: Network) -> tuple[int, ...]:
    """Height and width of what is given; channels, height and width of what is made; height and width of the
    weights; groups; channels of a group that are given and made."""
    weights, shape = step.attributes["weights"], network.arrays[step.inputs[0]].shape
    c, h, w = _planes(shape)
    n, oh, ow = _planes(step.attributes["shape"])
    groups = int(attribute(step, "group", 1))
    kh, kw = (1, weights.shape[2]) if len(shape) == 3 else weights.shape[2:]
    return h, w, n, oh, ow, kh, kw, groups, c // groups, n // groups


@kernel("Conv")
def convolution(step: Step, network: Network) -> Kernel:
    """A row of sums at a time, so that the innermost loop asks nothing and reads in order."""
    (sh, sw), (dh, dw), (ph, pw) = _geometry(step, network)
    h, w, n, oh, ow, kh, kw, groups, per, out = _sizes(step, network)
    first = f"m / {out} * {per}" if groups > 1 else "0"
    kind, term, total = accumulator(step, network)
    weight_kind = C_TYPES[str(step.attributes["weights"].dtype)]
    row = f"x0[((base + c) * {h} + at) * {w} + j * {sw} + q * {dw} - {pw}]"
    body = (
        f"for (int32_t m = 0; m < {n}; m++) {{\n"
        f"    const int32_t base = {first};\n"
        f"    for (int32_t i = 0; i < {oh}; i++) {{\n"
        f"        {kind} sums[{ow}] = {{0}};\n"
        f"        for (int32_t c = 0; c < {per}; c++) {{\n"
        f"            for (int32_t p = 0; p < {kh}; p++) {{\n"
        f"                const int32_t at = i * {sh} + p * {dh} - {ph};\n"
        f"                if (at < 0 || at >= {h}) {{\n"
        f"                    continue;\n"
        f"                }}\n"
        f"                for (int32_t q = 0; q < {kw}; q++) {{\n"
        f"                    const int32_t before = {pw} - q * {dw}, last = {w - 1} + before;\n"
        f"                    const int32_t low = before > 0 ? (before + {sw - 1}) / {sw} : 0;\n"
        f"                    const int32_t end = last < 0 ? 0 : last / {sw} + 1;\n"
        f"                    const int32_t high = end < {ow} ? end : {ow};\n"
        f"                    const {weight_kind} weight = w[((m * {per} + c) * {kh} + p) * {kw} + q];\n"
        f"                    for (int32_t j = low; j < high; j++) {{\n"
        f"                        sums[j] += {term(row, 'weight')};\n"
        f"                    }}\n"
        f"                }}\n"
        f"            }}\n"
        f"        }}\n"
        f"        for (int32_t j = 0; j < {ow}; j++) {{\n"
        f"{stored(step, total('sums[j]', 'm'), f'y0[(m * {oh} + i) * {ow} + j]', 12)}"
        f"        }}\n"
        f"    }}\n"
        f"}}\n"
    )
    return Kernel("conv", body, product_pointers(step))


@kernel("ConvTranspose")
def transposed(step: Step, network: Network) -> Kernel:
    """Every output gathers what meets it: i = at · stride − pad + p · dilation."""
    (sh, sw), (dh, dw), (ph, pw) = _geometry(step, network)
    h, w, n, oh, ow, kh, kw, _, per, out = _sizes(step, network)
    kind, term, total = accumulator(step, network)
    row = f"x0[((base + c) * {h} + a / {sh}) * {w} + b / {sw}]"
    weight = f"w[(((base + c) * {out} + m % {out}) * {kh} + p) * {kw} + q]"
    body = (
        f"for (int32_t m = 0; m < {n}; m++) {{\n"
        f"    const int32_t base = m / {out} * {per};\n"
        f"    for (int32_t i = 0; i < {oh}; i++) {{\n"
        f"        for (int32_t j = 0; j < {ow}; j++) {{\n"
        f"            {kind} sum = 0;\n"
        f"            for (int32_t p = 0; p < {kh}; p++) {{\n"
        f"                const int32_t a = i + {ph} - p * {dh};\n"
        f"                if (a < 0 || a % {sh} != 0 || a / {sh} >= {h}) {{\n"
        f"                    continue;\n"
        f"                }}\n"
        f"                for (int32_t q = 0; q < {kw}; q++) {{\n"
        f"                    const int32_t b = j + {pw} - q * {dw};\n"
        f"                    if (b < 0 || b % {sw} != 0 || b / {sw} >= {w}) {{\n"
        f"                        continue;\n"
        f"                    }}\n"
        f"                    for (int32_t c = 0; c < {per}; c++) {{\n"
        f"                        sum += {term(row, weight)};\n"
        f"                    }}\n"
        f"                }}\n"
        f"            }}\n"
        f"{stored(step, total('sum', 'm'), f'y0[(m * {oh} + i) * {ow} + j]', 12)}"
        f"        }}\n"
        f"    }}\n"
        f"}}\n"
    )
    return Kernel("conv_transpose", body, product_pointers(step))
