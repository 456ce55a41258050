"""What networks are asked by: conditions, encoded once where a sampler names an encoder, and beside them the
same with nothing asked, which guidance leads away from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import Array, Backend, Runner

__all__ = ["Asks", "led"]


class Asks:
    """A sampler with the fields of one that can be led.

    conditions: names of the conditions, in the order of the network's inputs
    null:       the value of each integer condition that means "nothing asked"
    encoders:   condition → graph that encodes it, once per sample
    guidance:   w in out = out(∅) + w (out(c) − out(∅)) (Ho & Salimans 2022)
    """

    conditions: tuple[str, ...]
    null: dict[str, int]
    encoders: dict[str, str]
    guidance: float

    def check_guidance(self) -> None:
        """Raises CallError where the model cannot be asked for nothing."""
        questions = {*self.conditions, getattr(self, "prompt", "")}
        if self.guidance != 1.0 and not questions & set(self.null):
            raise CallError("guidance needs a condition with a null value, and this model has none")

    def asked(self, graphs: Mapping[str, Runner], conditions: Mapping[str, Array]) -> list[Array]:
        """The conditions as the network is given them, one row per sample."""
        return [
            graphs[self.encoders[name]](conditions[name]) if name in self.encoders else conditions[name]
            for name in self.conditions
        ]

    def unasked(self, graphs: Mapping[str, Runner], conditions: Mapping[str, Array]) -> list[Array]:
        """The same with nothing asked. What has no null value (a picture to enlarge, say) stays."""
        null = self.null
        return self.asked(graphs, {k: v * 0 + null[k] if k in null else v for k, v in conditions.items()})

    def both(
        self, graphs: Mapping[str, Runner], conditions: Mapping[str, Array], backend: Backend
    ) -> list[Array]:
        """`asked` where nothing leads; else `2n` rows, with the question and then without."""
        asked = self.asked(graphs, conditions)
        if self.guidance == 1.0:
            return asked
        pairs = zip(asked, self.unasked(graphs, conditions), strict=True)
        return [backend.namespace(a).concat([a, b], axis=0) for a, b in pairs]


def led(both: Any, guidance: float) -> Any:
    """out(∅) + w (out(c) − out(∅)) of `2n` rows, out(c) first: `n` rows."""
    n = both.shape[0] // 2
    return both[n:] + guidance * (both[:n] - both[n:])
