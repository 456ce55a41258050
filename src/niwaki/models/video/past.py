"""The frames before a sample, which are the column `past` of data of clips."""

from __future__ import annotations

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.models.config import Conditioning

__all__ = ["PAST", "frame_shape", "past_frames"]

PAST = "past"
"""The column of the frames before the sample."""


def past_frames(spec: DataSpec, conditioning: Conditioning) -> int:
    """How many a model of these data is given; 0 for none."""
    return spec[PAST].shape[0] if PAST in spec and conditioning.wants(PAST) else 0


def frame_shape(spec: DataSpec, past: int, model: str) -> tuple[int, int, int]:
    """(C, H, W) of a frame. Raises CallError for data that hold no clips, and for a past of other frames."""
    if spec.axes != "TCHW" or spec.is_tokens:
        raise CallError(
            f"'{model}' makes clips (T, C, H, W); this data set holds {spec.modality} of shape {spec.shape}"
        )
    if past:
        _check_past(spec[PAST], spec.x)
    _, channels, height, width = spec.shape
    return channels, height, width


def _check_past(past: ValueSpec, x: ValueSpec) -> None:
    """Raises CallError where the past is not made of frames like those of the sample."""
    alike = past.axes == x.axes and past.shape[1:] == x.shape[1:]
    if not alike or (past.low, past.high) != (x.low, x.high):
        raise CallError(
            f"the column '{PAST}' holds {past.modality} of shape {past.shape}, and must be frames like those "
            f"of the clips {x.shape}; leave it out with model.conditioning.columns"
        )
