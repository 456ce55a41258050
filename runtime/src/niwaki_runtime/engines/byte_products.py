"""Whether this processor adds products of bytes where they do not fit.

An x86 processor without VNNI multiplies unsigned by signed bytes by `vpmaddubsw`, which adds two products in
16 bits and clips the sum: two of 255 · 127 are 64 770, and 32 767 is what comes out. With VNNI (`vpdpbusd`),
AMX or on Arm they are added in 32 bits. A quantized network is therefore another one on such a processor
unless its engine is told to avoid that instruction.
"""

from __future__ import annotations

import platform
from functools import cache

from niwaki_runtime.processor import processor_flags

__all__ = ["clips_byte_products"]

_WIDE = {"avx512_vnni", "avx_vnni", "amx_int8"}


@cache
def clips_byte_products() -> bool:
    """True for x86 without VNNI, and where that cannot be told: exact results go before fast ones."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "x86"):
        return False
    flags = processor_flags()
    return not (_numpy_knows_vnni() if flags is None else flags & _WIDE)


def _numpy_knows_vnni() -> bool:
    """numpy reads the processor on every system; its group of Cascade Lake is AVX-512 with VNNI."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__
    except ImportError:
        return False
    return bool(__cpu_features__.get("AVX512_CLX"))
