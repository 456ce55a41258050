"""Operators that have a form in C: each enters itself, under its name in ONNX."""

from niwaki.deployment.c.operators.operator import (
    POINTWISE,
    Kernel,
    Pointer,
    kernel_of,
    may_overwrite,
    operators,
)

__all__ = ["POINTWISE", "Kernel", "Pointer", "kernel_of", "may_overwrite", "operators"]
