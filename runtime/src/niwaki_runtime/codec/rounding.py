"""Network outputs as integers, alike on every machine: where two could round differently, it is written down.

A network in float64 gives the same numbers everywhere up to about 1e-13. Rounded to a grid they are the same
but where one lies within that of the middle between two grid points: the encoder lists those few with its
choice, and the decoder follows the list.
"""

from __future__ import annotations

import struct

import numpy as np

from niwaki_runtime.codec.errors import CodecError

__all__ = ["Rounding"]

NEAR = 2.0**-20
"""Grid steps from the middle within which a choice is written down; float64's noise is far less."""
_ENTRY = struct.Struct("<IHIB")
_LIMIT = 1 << 40


class Rounding:
    """Rounds arrays to integers, and remembers (or is told) the choices that were close.

    ties: the encoder's choices, from `to_bytes`; None where they are being made
    near: grid steps from the middle within which a choice is close; the coarser the grid, the fewer
    """

    def __init__(self, ties: bytes | None = None, *, near: float = NEAR) -> None:
        self._near = near
        self._making = ties is None
        self._ties: dict[tuple[int, int], list[tuple[int, int]]] = {}
        data = ties or b""
        if len(data) % _ENTRY.size:
            raise CodecError("a list of close choices is cut short")
        for item, stage, place, up in _ENTRY.iter_unpack(data):
            self._ties.setdefault((item, stage), []).append((place, up))

    def __call__(self, x: np.ndarray, *, first: int, stage: int) -> np.ndarray:
        """`x` `(items, …)` rounded to the nearest integers, int64.

        first: number of the first item; stage: which of an item's roundings it is
        """
        x = np.clip(np.nan_to_num(np.asarray(x, np.float64), nan=0.0), -_LIMIT, _LIMIT)
        below = np.floor(x)
        rest = x - below
        found = (below + (rest >= 0.5)).astype(np.int64)
        if self._making:
            flat = np.abs(rest - 0.5).reshape(len(x), -1) < self._near
            for row, place in np.argwhere(flat):
                up = int(found[row].flat[place] - int(below[row].flat[place]))
                self._ties.setdefault((first + int(row), stage), []).append((int(place), up))
            return found
        for row in range(len(x)):
            for place, up in self._ties.get((first + row, stage), ()):
                if place >= below[row].size:
                    raise CodecError("a list of close choices does not fit the samples")
                found[row].flat[place] = int(below[row].flat[place]) + up
        return found

    def to_bytes(self) -> bytes:
        """All choices that were close; mostly empty."""
        return b"".join(
            _ENTRY.pack(item, stage, place, up)
            for (item, stage), ties in sorted(self._ties.items())
            for place, up in ties
        )
