"""Loops over arrays by their strides, as few as do."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["broadcast_strides", "collapsed", "copy_text", "index_text", "loop_text", "strides_of"]


def strides_of(shape: Sequence[int]) -> list[int]:
    """Of a contiguous array, in values."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def broadcast_strides(shape: Sequence[int], out: Sequence[int]) -> list[int]:
    """Strides by which an array of `shape` is read along the axes of `out`."""
    full = [1] * (len(out) - len(shape)) + list(shape)
    return [0 if n == 1 else s for n, s in zip(full, strides_of(full), strict=True)]


def collapsed(dims: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The same places in fewer axes: those of length 1 go, and those that follow each other in all arrays
    become one."""
    sizes: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(dims):
        if n == 1:
            continue
        steps = [s[axis] for s in strides]
        if sizes and all(k[-1] == n * s for k, s in zip(kept, steps, strict=True)):
            sizes[-1] *= n
            for k, s in zip(kept, steps, strict=True):
                k[-1] = s
        else:
            sizes.append(n)
            for k, s in zip(kept, steps, strict=True):
                k.append(s)
    return sizes, kept


def index_text(strides: Sequence[int], offset: int = 0, letter: str = "i") -> str:
    """`i0 * 12 + i1`"""
    parts = [f"{letter}{k}" if s == 1 else f"{letter}{k} * {s}" for k, s in enumerate(strides) if s]
    if offset or not parts:
        parts.append(str(offset))
    return " + ".join(parts).replace("+ -", "- ")


def loop_text(dims: Sequence[int], body: str, letter: str = "i") -> str:
    """`body` inside a loop for each axis."""
    head = ""
    for k, n in enumerate(dims):
        at = f"{letter}{k}"
        head += f"{'    ' * k}for (int32_t {at} = 0; {at} < {n}; {at}++) {{\n"
    inner = "".join(f"{'    ' * len(dims)}{line}\n" for line in body.splitlines())
    tail = "".join(f"{'    ' * k}}}\n" for k in reversed(range(len(dims))))
    return head + inner + tail


def copy_text(
    dims: Sequence[int],
    to: Sequence[int],
    source: Sequence[int],
    at: int = 0,
    begin: int = 0,
    names: tuple[str, str] = ("y0", "x0"),
) -> str:
    """Values from one array to another, each by its strides.

    at, begin: where the first one goes, and where it is read
    """
    sizes, (a, b) = collapsed(dims, to, source)
    y, x = names
    if (not sizes) or (len(sizes) == 1 and a == [1] and b == [1]):
        n = sizes[0] if sizes else 1
        return f"memcpy({y} + {at}, {x} + {begin}, {n} * sizeof *{y});\n"
    return loop_text(sizes, f"{y}[{index_text(a, at)}] = {x}[{index_text(b, begin)}];")
