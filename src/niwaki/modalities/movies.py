"""MP4 and other films as frames, by PyAV, which is an extra: `pip install 'niwaki[video]'`."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.errors import CallError

__all__ = ["MOVIES", "movie_bytes", "movie_frames", "require_av"]

MOVIES = ("mp4", "m4v", "mov", "webm", "mkv", "avi")
"""Endings that are read."""
_CODECS = (("libx264", {"crf": "12", "preset": "slow"}), ("mpeg4", {"qscale": "2"}))
"""What MP4 is written by, the better first; settings at which small frames keep their edges."""


def require_av(what: str) -> Any:
    """The package `av`. Raises CallError where it is missing; what: who needs it, as the sentence begins."""
    try:
        import av
    except ImportError:
        raise CallError(
            f"{what} needs the package 'av' (PyAV): pip install 'niwaki[video]'; "
            ".gif and folders of frames do without"
        ) from None
    return av


def movie_bytes(frames: Sequence[np.ndarray], rate: float) -> bytes:
    """MP4 of frames, uint8 `(H, W)` or `(H, W, 3)`, at `rate` per second; H.264 where the build has it.

    An odd edge is filled up with white by one pixel, since the format stores colours of pixels by fours.
    Raises CallError without PyAV.
    """
    av = require_av("writing MP4")
    pages = [np.repeat(f[..., None], 3, -1) if f.ndim == 2 else f[..., :3] for f in frames]
    height, width = (math.ceil(edge / 2) * 2 for edge in pages[0].shape[:2])
    codec, options = next((c, o) for c, o in _CODECS if c in av.codec.codecs_available)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as movie:
        stream = movie.add_stream(codec, rate=Fraction(rate).limit_denominator(1000), options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for page in pages:
            filled = np.full((height, width, 3), 255, np.uint8)
            filled[: page.shape[0], : page.shape[1]] = page
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(filled, format="rgb24")))
        movie.mux(stream.encode())
    return file.getvalue()


def movie_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames of the first film in a file, uint8 `(H, W, 3)`, in the order in which they are shown.

    Raises CallError without PyAV and for a file without moving pictures, and what PyAV raises for broken
    ones.
    """
    av = require_av(f"reading '{path.name}'")
    with av.open(str(path)) as movie:
        if not movie.streams.video:
            raise CallError("holds no moving pictures")
        for frame in movie.decode(movie.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")
