"""Recordings of any length as small files, by a model whose samples are short sounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from niwaki_runtime.codec.codec import Codec, Coded, Decoded
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec

__all__ = ["DecodedRecordings", "RecordingCodec", "is_sound"]


def is_sound(spec: ValueSpec) -> bool:
    """Whether samples are amounts over time between two bounds, `(T,)` or `(C, T)`."""
    return spec.axes in ("T", "CT") and not spec.is_tokens and math.isfinite(spec.high - spec.low)


@dataclass(frozen=True)
class DecodedRecordings:
    """What a coded file of recordings held.

    sounds: each `(C, steps)` float32 in the spec's range; the middle of it stands for what is lost
    names:  what they were called, where they were files
    lost:   numbers of the recordings of which something is lost
    """

    sounds: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    lost: tuple[int, ...]


class RecordingCodec:
    """Recordings one after another, cut into windows as long as the model's samples, each coded by itself.

    A bad byte costs the windows of a block. Raises CallError where the model's samples are no sound.
    """

    def __init__(self, codec: Codec) -> None:
        if not is_sound(codec.spec):
            raise CallError(f"recordings are coded by a model of sound; this one makes {codec.spec.modality}")
        self._codec = codec
        self._length = codec.spec.shape[-1]
        self._channels = codec.spec.size // self._length

    def encode(
        self,
        sounds: Sequence[np.ndarray],
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        names: Sequence[str] = (),
        lossy: bool = False,
        block: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> Coded:
        """Sounds `(C, steps)` in the spec's range as a file; a bad byte costs `block` windows.

        labels: what each window is, for a model that is conditioned; what is left out is chosen
        """
        for sound in sounds:
            if sound.ndim != 2 or len(sound) != self._channels:
                raise CallError(
                    f"a recording must have the shape ({self._channels}, steps), not {sound.shape}"
                )
        windows = self._windows(np.concatenate([*sounds, np.zeros((self._channels, 0))], axis=1))
        coded = self._codec.encode(
            windows, labels=labels, names=names, lossy=lossy, block=block, progress=progress,
            lengths=[sound.size for sound in sounds],
        )  # fmt: skip
        return replace(coded, n=len(sounds))

    def _windows(self, stream: np.ndarray) -> np.ndarray:
        """`(C, steps)` → samples `(n, *shape)`, after the end the middle of the range."""
        spec, steps = self._codec.spec, stream.shape[1]
        count = -(-steps // self._length)
        filled = np.full((self._channels, count * self._length), (spec.low + spec.high) / 2, np.float32)
        filled[:, :steps] = stream
        cut = filled.reshape(self._channels, count, self._length).swapaxes(0, 1)
        return cut.reshape(count, *spec.shape)

    def decode(self, data: bytes, *, progress: Callable[[int, int], None] | None = None) -> DecodedRecordings:
        """The recordings of a coded file. Raises CodecError as `Codec.decode`, and for a file of samples."""
        return self.recordings_of(self._codec.decode(data, progress=progress))

    def recordings_of(self, found: Decoded) -> DecodedRecordings:
        """The recordings that decoded windows are. Raises CodecError for other samples."""
        if found.lengths is None:
            raise CodecError("the file holds samples, no recordings")
        spec = self._codec.spec
        x = found.x.reshape(-1, self._channels, self._length).copy()
        gone = np.zeros((len(x), self._length), bool)
        gone[list(found.lost)] = True
        x[list(found.lost)] = (spec.low + spec.high) / 2
        stream, missing = x.swapaxes(0, 1).reshape(self._channels, -1), gone.reshape(-1)
        sounds, lost, at = [], [], 0
        for i, length in enumerate(found.lengths):
            here = slice(at, at + length // self._channels)
            at = here.stop
            sounds.append(stream[:, here])
            if missing[here].any():
                lost.append(i)
        return DecodedRecordings(tuple(sounds), found.names, tuple(lost))
