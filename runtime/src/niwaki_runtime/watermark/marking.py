"""A watermark as one call asks for it: whose key, how strong, in what."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Sampler
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.base import TokenMark, mark_of
from niwaki_runtime.watermark.key import Key

__all__ = ["Watermark"]


@dataclass(frozen=True)
class Watermark:
    """
    key:      whose mark it is
    strength: of the mark; None: what is usual for the kind of samples
    """

    key: Key = field(repr=False)
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            raise CallError(f"the strength of a watermark lies in (0, 1], not {self.strength}")

    def drawing(self, sampler: Sampler, spec: ValueSpec) -> TokenMark | None:
        """What chooses the tokens; None where samples are marked once they are made.

        Raises CallError for samples that carry no mark, and where tokens are not drawn one after another.
        """
        found = mark_of(spec).drawing(self.key)
        if found is not None and not sampler.draws_tokens:
            raise CallError(
                f"the sampler '{sampler.kind}' does not draw token after token, as this watermark needs "
                "(beams and a temperature of 0 draw none)"
            )
        return found

    def embed(self, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        """Samples `(n, *shape)` with the mark, those that were drawn with it as they are."""
        mark = mark_of(spec)
        return mark.embed(x, spec, self.key, mark.strength if self.strength is None else self.strength)
