"""Texts that are steered while they are made: they stop at a string, match an expression, fit a schema."""

from niwaki_runtime.steering.registry import steer_from
from niwaki_runtime.steering.stops import StopStrings

__all__ = ["StopStrings", "steer_from"]
