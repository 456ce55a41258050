"""What a step did, in figures: sizes, arithmetic, bytes, time, and how far the samples moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """One step of a plan, measured on what was reloaded from disk.

    kind, settings:  the step and its config
    parameters:      of the graphs that sampling calls, before and after the step
    macs:            multiply-accumulates of one sample (all network evaluations), before and after
    bytes:           of the bundle on disk after the step; None where none was made
    latency:         batch size → milliseconds of `sample` on the engine, after the step; empty where not
                     measured
    error:           mean |difference| of samples from those of the uncompressed model at the same noise, in
                     units of the latter's standard deviation
    quantized:       graph → operators computed on integers, and how many there are in all
    seconds:         what the step took
    widths:          coupling → channels before and after (pruning)
    skipped:         coupling → why it kept its width (pruning)
    notes:           anything else worth knowing
    idle:            the step found nothing to do
    sparsity:        layer by layer, weights, zeros and patterns after the step (pruning), as
                     `niwaki.compression.pruning.sparsity_table.LayerSparsity.to_json` gives it
    """

    kind: str
    settings: dict[str, Any]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    bytes: int | None
    latency: dict[str, float]
    error: float
    quantized: dict[str, dict[str, int]]
    seconds: float
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    idle: bool = False
    sparsity: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Record:
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in record.items() if k in known}
        for name in ("parameters", "macs", "notes"):
            values[name] = tuple(values[name])
        values["sparsity"] = tuple(values.get("sparsity", ()))
        values["widths"] = {k: tuple(v) for k, v in values["widths"].items()}
        return cls(**values)
