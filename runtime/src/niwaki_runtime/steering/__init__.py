"""Texts that are steered while they are made: they stop at a string, match an expression, fit a schema."""

from niwaki_runtime.steering.constraint import Constraint
from niwaki_runtime.steering.registry import steer_from
from niwaki_runtime.steering.schema import expression_of
from niwaki_runtime.steering.stops import StopStrings

__all__ = ["Constraint", "StopStrings", "expression_of", "steer_from"]
