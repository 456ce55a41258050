"""Convolutions and pooling in float64 by matrix products; the reference evaluator goes pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["convolve", "convolve_transposed", "pool_average", "window_operators"]


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int = 1,
) -> np.ndarray:
    """x `(n, C, *size)`, w `(M, C/group, *kernel)` → `(n, M, *out)` (ONNX's Conv)."""
    spatial, n, m = x.ndim - 2, x.shape[0], w.shape[0]
    windows = _windows(_padded(x, pads), w.shape[2:], strides, dilations)  # (n, C, *out, *kernel)
    out = windows.shape[2 : 2 + spatial]
    # (group, n·out, C/group·kernel) times (group, C/group·kernel, M/group)
    order = (0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial))
    rows = windows.transpose(order).reshape(n * int(np.prod(out)), group, -1).transpose(1, 0, 2)
    weights = w.reshape(group, m // group, -1).transpose(0, 2, 1)
    made = (rows @ weights).transpose(1, 0, 2).reshape(n, *out, m)
    made = np.moveaxis(made, -1, 1)
    return made if b is None else made + b.reshape(-1, *[1] * spatial)


def convolve_transposed(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    pads: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    output_padding: Sequence[int],
    group: int = 1,
) -> np.ndarray:
    """x `(n, C, *size)`, w `(C, M/group, *kernel)` → `(n, M, *out)` (ONNX's ConvTranspose)."""
    spatial, n = x.ndim - 2, x.shape[0]
    kernel, size = w.shape[2:], x.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [(s - 1) * t + r + o for s, t, r, o in zip(size, strides, reach, output_padding, strict=True)]
    out = np.zeros((n, w.shape[1] * group, *full), x.dtype)
    grouped = x.reshape(n, group, -1, *size)
    weights = w.reshape(group, -1, *w.shape[1:])
    for place in np.ndindex(*kernel):
        # what every input pixel adds at this place of the kernel
        part = np.einsum("ngc...,gcm->ngm...", grouped, weights[(..., *place)])
        where = tuple(
            slice(p * d, p * d + (s - 1) * t + 1, t)
            for p, d, s, t in zip(place, dilations, size, strides, strict=True)
        )
        out[(slice(None), slice(None), *where)] += part.reshape(n, -1, *size)
    ends = [f - e for f, e in zip(full, pads[spatial:], strict=True)]
    cut = tuple(slice(start, end) for start, end in zip(pads[:spatial], ends, strict=True))
    out = out[(slice(None), slice(None), *cut)]
    return out if b is None else out + b.reshape(-1, *[1] * spatial)


def pool_average(x: np.ndarray, kernel: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """Means of windows without padding (ONNX's AveragePool)."""
    spatial = x.ndim - 2
    windows = _windows(x, tuple(kernel), strides, [1] * spatial)
    return np.asarray(windows.mean(axis=tuple(range(2 + spatial, 2 + 2 * spatial))))


def _padded(x: np.ndarray, pads: Sequence[int]) -> np.ndarray:
    spatial = x.ndim - 2
    if not any(pads):
        return x
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])


def _windows(
    x: np.ndarray, kernel: tuple[int, ...], strides: Sequence[int], dilations: Sequence[int]
) -> np.ndarray:
    """A view `(n, C, *out, *kernel)`."""
    spatial = x.ndim - 2
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    every = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + spatial)))
    steps = [slice(None, None, s) for s in strides] + [slice(None, None, d) for d in dilations]
    return every[(slice(None), slice(None), *steps)]


def window_operators() -> list[Any]:
    """The functions above as operators of the reference evaluator; what they do not do is left to its own."""
    from onnx.reference.ops.op_average_pool import AveragePool_19
    from onnx.reference.ops.op_conv import Conv as ReferenceConv
    from onnx.reference.ops.op_conv_transpose import ConvTranspose as ReferenceConvTranspose

    class Conv(ReferenceConv):
        op_domain = ""

        def _run(self, x, w, b=None, **given):  # type: ignore[override, no-untyped-def]
            spatial = x.ndim - 2
            if _automatic(given):
                return super()._run(x, w, b, **given)
            return (
                convolve(
                    x, w, b, pads=given.get("pads") or [0] * 2 * spatial,
                    strides=given.get("strides") or [1] * spatial,
                    dilations=given.get("dilations") or [1] * spatial, group=given.get("group") or 1,
                ),
            )  # fmt: skip

    class ConvTranspose(ReferenceConvTranspose):
        op_domain = ""

        def _run(self, x, w, b=None, **given):  # type: ignore[override, no-untyped-def]
            spatial = x.ndim - 2
            if _automatic(given) or given.get("output_shape"):
                return super()._run(x, w, b, **given)
            return (
                convolve_transposed(
                    x, w, b, pads=given.get("pads") or [0] * 2 * spatial,
                    strides=given.get("strides") or [1] * spatial,
                    dilations=given.get("dilations") or [1] * spatial,
                    output_padding=given.get("output_padding") or [0] * spatial,
                    group=given.get("group") or 1,
                ),
            )  # fmt: skip

    class AveragePool(AveragePool_19):
        op_domain = ""

        def _run(self, x, **given):  # type: ignore[override, no-untyped-def]
            spatial = x.ndim - 2
            plain = not any(given.get("pads") or ()) and not given.get("ceil_mode")
            if _automatic(given) or not plain or any(d != 1 for d in given.get("dilations") or ()):
                return super()._run(x, **given)
            return (pool_average(x, given["kernel_shape"], given.get("strides") or [1] * spatial),)

    return [Conv, ConvTranspose, AveragePool]


def _automatic(given: dict[str, Any]) -> bool:
    return given.get("auto_pad") not in (None, "NOTSET")
