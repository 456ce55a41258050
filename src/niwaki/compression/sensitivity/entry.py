"""What was found: one entry per layer, technique and strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["TECHNIQUES", "Damage", "Entry", "Sensitivity"]

TECHNIQUES = ("prune", "weights", "activations")
"""Strengths: the share of channels cut; bits of the weights; bits of the inputs."""


@dataclass(frozen=True)
class Damage:
    """What one axis lost, in units of its margin: 1 is as much as a verdict lets pass; below 0 is a gain.

    interval: 95 % of it
    """

    value: float
    interval: tuple[float, float]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Damage:
        low, high = record["interval"]
        return cls(float(record["value"]), (float(low), float(high)))


@dataclass(frozen=True)
class Entry:
    """One trial: this layer alone was changed.

    layer:      the first of them that runs, where several can only be cut together
    technique:  `prune`, `weights`, `activations`; strength: as `TECHNIQUES` says
    fidelity, diversity: damage by axis
    n:          pairs of samples that it rests on
    confirmed:  measured again with more pairs
    parameters, macs: what is saved of them (pruning); macs of one sample, all network evaluations
    bytes:      what is saved of the weights as they would be stored
    together:   the other layers that lose channels with it
    reason:     why it could not be tried; the damage is then None
    """

    layer: str
    technique: str
    strength: float
    fidelity: Damage | None
    diversity: Damage | None
    n: int = 0
    confirmed: bool = False
    parameters: int = 0
    macs: int = 0
    bytes: int = 0
    together: tuple[str, ...] = ()
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, float]:
        return (self.layer, self.technique, self.strength)

    @property
    def worst(self) -> float:
        """Damage on the axis that lost more; 0 where it could not be tried."""
        return max((d.value for d in (self.fidelity, self.diversity) if d is not None), default=0.0)

    @property
    def undecided(self) -> bool:
        """Whether the interval of an axis reaches across the margin."""
        found = (d for d in (self.fidelity, self.diversity) if d is not None)
        return any(d.interval[0] < 1.0 < d.interval[1] for d in found)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Entry:
        axes = {
            a: None if record[a] is None else Damage.from_json(record[a]) for a in ("fidelity", "diversity")
        }
        return cls(**{**record, **axes, "together": tuple(record["together"])})


@dataclass(frozen=True)
class Sensitivity:
    """layers: in order of execution; margins: what 1 is, by axis; extractor: whose features were compared;
    real: how many real samples the pairs were placed among; chosen: keys of what is
    confirmed, None before all was tried."""

    layers: tuple[str, ...]
    entries: tuple[Entry, ...]
    margins: Mapping[str, float]
    extractor: str
    real: int
    seed: int
    key: str = ""
    chosen: tuple[tuple[str, str, float], ...] | None = None

    def of(self, layer: str, technique: str, strength: float) -> Entry | None:
        wanted = (layer, technique, strength)
        return next((e for e in self.entries if e.key == wanted), None)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "layers": list(self.layers), "entries": [e.to_json() for e in self.entries]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Sensitivity:
        entries = tuple(Entry.from_json(e) for e in record["entries"])
        chosen = record.get("chosen")
        chosen = None if chosen is None else tuple((a, b, float(c)) for a, b, c in chosen)
        return cls(**{**record, "layers": tuple(record["layers"]), "entries": entries, "chosen": chosen})
