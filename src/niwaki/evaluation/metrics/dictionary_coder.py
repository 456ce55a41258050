"""What a text takes to store with xz: a code that knows repetitions, and nothing of language."""

from __future__ import annotations

__all__ = ["xz_bits_per_byte"]


def xz_bits_per_byte(text: bytes, known: bytes = b"") -> float:
    """Bits per byte of `text` under `xz -9`; `known` is a text that both sides have, before it.

    What `known` + `text` takes beyond `known` alone: the dictionary of 64 MiB reaches back into it.
    """
    import lzma

    size = len(lzma.compress(known + text, preset=9))
    if known:
        size -= len(lzma.compress(known, preset=9))
    return 8.0 * size / max(1, len(text))
