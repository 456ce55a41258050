"""What things are: a value (`ValueSpec`), what a model may be asked for (`ConditionSpec`), data (`DataSpec`).

These records travel from the data through the model into the bundle's manifest, so they are plain, frozen and
round-trip through JSON. Code asks `spec.values` and `spec.axes`, never the name of a modality.
"""

from niwaki_runtime.specs.condition import ConditionSpec, place_of, resolve
from niwaki_runtime.specs.data import SAMPLE, DataSpec
from niwaki_runtime.specs.value import ValueSpec
from niwaki_runtime.specs.values import Levels, Real, Tokens, Values

__all__ = [
    "SAMPLE",
    "ConditionSpec",
    "DataSpec",
    "Levels",
    "Real",
    "Tokens",
    "ValueSpec",
    "Values",
    "place_of",
    "resolve",
]
