"""Watermarks: keyed marks in what a model makes, and the test for them, with numpy alone."""

from niwaki_runtime.watermark import pictures, sounds, tokens  # noqa: F401  (they enter their kinds)
from niwaki_runtime.watermark.base import Evidence, Mark, TokenMark, carries_mark, mark_of
from niwaki_runtime.watermark.detect import Finding, detect
from niwaki_runtime.watermark.key import Key, new_key, read_key
from niwaki_runtime.watermark.marking import Watermark

__all__ = [
    "Evidence",
    "Finding",
    "Key",
    "Mark",
    "TokenMark",
    "Watermark",
    "carries_mark",
    "detect",
    "mark_of",
    "new_key",
    "read_key",
]
