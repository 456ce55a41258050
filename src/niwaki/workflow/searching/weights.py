"""What parts of a model cost alone, on both axes, in margins of the verdict: what the allocation adds up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from niwaki.compression.quantization.ranges import Items
from niwaki.compression.search.choices import FLOAT, HALF, Choices
from niwaki.compression.search.output_error import OutputError
from niwaki.core.contract import GenerativeModel

__all__ = ["BITS", "RATIOS", "RUINED", "Key", "Probe", "Weights", "sampling_key"]

RATIOS = (0.5, 0.75, 0.25)
"""Shares of channels that are tried, the first one first."""
BITS = 4
"""Of the weights that are tried."""
RUINED = 3.0
"""Margins that a number of evaluations may lose by itself, for plans with it to be trained."""
_LEAST = 1e-3
"""Margins of half a coupling, or of a layer at 4 bits, at least: what does not show is not free."""
_STEEP = 1.5
"""Exponent of the damage of shares that were not tried."""

Key = tuple[str, str, float]
"""Technique, layer or block, strength."""


@dataclass(frozen=True)
class Probe:
    """Where errors are measured.

    base: the model as it is sampled there; inputs: of its graphs; error: of copies of it
    """

    base: GenerativeModel
    inputs: Items
    error: OutputError


@dataclass
class Weights:
    """
    rows:   as far as measured, (fidelity, diversity) in margins: of `prune`, `weights`, `activations`, `drop`
            what one layer or block costs so; of (`sampling`, solver, evaluations) and (`distill`, steps of
            its trainings, evaluations) what the whole model loses
    errors: of parts, what they do to the outputs of the network (`OutputError`): what was not measured costs
            as much for its error as what was
    probe:  with which errors of whole plans can be measured; None where every change was judged
    """

    rows: dict[Key, tuple[float, float]] = field(default_factory=dict)
    errors: dict[Key, float] = field(default_factory=dict)
    probe: Probe | None = field(default=None, repr=False)

    def cut(self, coupling: str, ratio: float) -> tuple[float, float]:
        """Of losing that share of one coupling's channels."""
        if ratio <= 0:
            return (0.0, 0.0)
        return self._of("prune", coupling, ratio, list(RATIOS))

    def rounded(self, layer: str, bits: int) -> tuple[float, float]:
        """Of rounding one layer: of its weights the damage follows the squared error, a quarter with each
        bit; with up to 8 of them what the layer is given is rounded, too, to 8 always."""
        if bits >= FLOAT:
            return (0.0, 0.0)
        f, d = self._of("weights", layer, BITS, [BITS])
        f, d = f * _coarser(bits), d * _coarser(bits)
        if bits < HALF and any(technique == "activations" for technique, _, _ in (*self.rows, *self.errors)):
            more = self._of("activations", layer, 8.0, [8.0])
            f, d = f + more[0], d + more[1]
        return f, d

    def rounding_error(self, layer: str, bits: int) -> float:
        """What rounding it does to the outputs of the network, by the same law; 0 where not measured."""
        if bits >= FLOAT:
            return 0.0
        error = self.errors.get(("weights", layer, float(BITS)), 0.0) * _coarser(bits)
        return error + (self.errors.get(("activations", layer, 8.0), 0.0) if bits < HALF else 0.0)

    def without(self, block: str) -> tuple[float, float]:
        """Of leaving one block out."""
        return self._of("drop", block, 1.0, [1.0])

    def sampled(self, choices: Choices) -> tuple[float, float]:
        """Of its number of evaluations; 0 where they were not tried."""
        return self.rows.get(sampling_key(choices), (0.0, 0.0))

    def whole(self, choices: Choices) -> tuple[float, float]:
        """By axis, what the groups of a plan cost alone, added up."""
        parts = [self.cut(name, ratio) for name, ratio in choices.left(choices.ratios).items()]
        parts += [self.rounded(name, bits) for name, bits in choices.left(choices.bits).items()]
        parts += [self.without(name) for name in choices.dropped]
        parts += [self.sampled(choices)]
        return sum(f for f, _ in parts), sum(d for _, d in parts)

    def _of(self, technique: str, name: str, strength: float, tried: list[float]) -> tuple[float, float]:
        known = {s: self.rows[technique, name, s] for s in tried if (technique, name, s) in self.rows}
        known = known or self._expected(technique, name, tried)
        if not known:  # the middle of the others
            for s in tried:
                alike = [v for (t, _, k), v in self.rows.items() if t == technique and k == s]
                if alike:
                    known[s] = (
                        float(np.median([a for a, _ in alike])),
                        float(np.median([b for _, b in alike])),
                    )
        if not known:
            known = {tried[0]: (1.0, 1.0)}
        if strength in known:
            near, scale = strength, 1.0
        else:
            near = min(known, key=lambda s: abs(s - strength))
            scale = ((strength / (1 - strength)) / (near / (1 - near))) ** _STEEP if strength < 1 else 1.0
        least = _LEAST * (strength / near if technique == "prune" else 1.0)
        f, d = known[near]
        return max(f, least) * scale, max(d, least) * scale

    def _expected(
        self, technique: str, name: str, tried: Iterable[float]
    ) -> dict[float, tuple[float, float]]:
        """By the errors of outputs, at the rate of margins that measured parts have paid for theirs: those of
        the same technique, or all."""
        known = {s: self.errors[technique, name, s] for s in tried if (technique, name, s) in self.errors}
        if not known:
            return {}
        rates = self.rate(technique) or self.rate()
        return {} if rates is None else {s: (rates[0] * e, rates[1] * e) for s, e in known.items()}

    def rate(self, technique: str | None = None) -> tuple[float, float] | None:
        """Margins by axis that measured changes (of one technique, or all) have cost for their errors, at
        least 0; None where there are none."""
        both = [key for key in self.rows if key in self.errors and technique in (None, key[0])]
        spent = sum(self.errors[key] for key in both)
        if spent <= 0:
            return None
        f, d = (max(0.0, sum(self.rows[key][axis] for key in both) / spent) for axis in (0, 1))
        return f, d


def _coarser(bits: int) -> float:
    """Squared error of weights on so many bits, in units of that on `BITS`."""
    return float(4.0 ** (BITS - bits))


def sampling_key(choices: Choices) -> tuple[str, str, float]:
    """Of `Weights.rows`: what the number of evaluations loses by itself."""
    if choices.distilled:
        return "distill", " ".join(map(str, choices.distilled)), float(choices.evaluations)
    return "sampling", choices.solver or "", float(choices.evaluations)
