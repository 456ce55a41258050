"""Spans of time as people write them: `90s`, `20m`, `1h`, `1h30m`."""

from __future__ import annotations

import re

from niwaki.core.contract import CallError

__all__ = ["seconds_in"]

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)")


def seconds_in(span: str | float) -> float:
    """Seconds of a span; a number alone is seconds.

    Raises CallError for anything else, and for no time at all.
    """
    text = str(span).strip().lower()
    rest = _PART.sub("", text).strip()
    found = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if re.fullmatch(r"\d+(\.\d+)?", text):
        rest, found = "", float(text)
    if rest or not found > 0.0:
        raise CallError(f"'{span}' is no span of time; write 90s, 20m or 1h30m")
    return found
