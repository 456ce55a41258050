"""Where bfloat16 is fast."""

from __future__ import annotations

import torch

__all__ = ["has_bf16"]


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices itself; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        names = ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16", "bf16")
        return any(bool(able.get(n)) for n in names)
    return False
