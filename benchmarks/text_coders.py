"""What general compressors make of a text, alone and when both sides know the training text."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from importlib import import_module

__all__ = ["bits_of_coders"]

Size = Callable[[bytes], int]
PPMD_ORDERS = (4, 6, 8, 12, 16)  # the best on validation counts
PPMD_MEMORY = 1 << 30


def bits_of_coders(test: bytes, validation: bytes, known: bytes) -> dict[str, dict[str, float]]:
    """By coder with its best flags, bits per byte of `test`: `alone`, and `given train`, which is what
    `known` + `test` takes beyond `known` alone. Coders whose package is missing are left out."""
    best = 9 | lzma.PRESET_EXTREME
    coders: dict[str, Size] = {"xz -9e": lambda text: len(lzma.compress(text, preset=best))}
    ppmd, zpaq = _package("pyppmd"), _package("zpaq")
    if ppmd:
        sizes: dict[int, Size] = {order: _ppmd(ppmd, order) for order in PPMD_ORDERS}
        order = min(sizes, key=lambda o: sizes[o](known + validation))
        coders[f"PPMd, order {order}"] = sizes[order]
    if zpaq:
        coders["zpaq -m5"] = lambda text: len(zpaq.compress(text, level=5, threads=1))
    return {
        name: {
            "alone": 8 * size(test) / len(test),
            "given train": 8 * (size(known + test) - size(known)) / len(test),
        }
        for name, size in coders.items()
    }


def _ppmd(package: object, order: int) -> Size:
    def size(text: bytes) -> int:
        encoder = package.Ppmd7Encoder(order, PPMD_MEMORY)  # type: ignore[attr-defined]
        return len(encoder.encode(text)) + len(encoder.flush())

    return size


def _package(name: str) -> object | None:
    try:
        return import_module(name)
    except ImportError:
        return None
