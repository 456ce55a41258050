"""Weights as `static const` arrays: what lies in flash."""

from __future__ import annotations

import numpy as np

from niwaki.deployment.c.operators.pointwise import literal
from niwaki.deployment.c.types import C_TYPES

__all__ = ["Constants"]

_PER_LINE = 12


class Constants:
    """Arrays by their values: equal ones are stored once.

    bytes: of all of them
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._names: dict[tuple[str, bytes], str] = {}
        self._texts: list[str] = []

    def name(self, values: np.ndarray) -> str:
        """What an array is called in C."""
        if values.dtype.kind == "f" and values.dtype != np.float32:
            values = values.astype(np.float32)
        key = str(values.dtype), values.tobytes()
        if key not in self._names:
            name = f"c{len(self._names)}"
            self._names[key] = name
            self._texts.append(_text(name, values))
            self.bytes += values.nbytes
        return self._names[key]

    def text(self) -> str:
        return "".join(self._texts)


def _text(name: str, values: np.ndarray) -> str:
    numbers = [literal(v) for v in values.reshape(-1)]
    lines = [", ".join(numbers[i : i + _PER_LINE]) for i in range(0, len(numbers), _PER_LINE)]
    kind = C_TYPES[str(values.dtype)]
    return f"static const {kind} {name}[{values.size}] = {{\n    " + ",\n    ".join(lines) + "};\n"
