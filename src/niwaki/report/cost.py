"""What was gained step by step: bars of size and speed, and what every step of the plan did."""

from __future__ import annotations

from dataclasses import dataclass

from niwaki.report import times
from niwaki.report.record import RunRecord
from niwaki.report.words import NONE, bytes_text, count_text, ms_text, number_text, seconds_text

__all__ = ["Bar", "bars", "steps"]

WAYS = {
    "before": "the trained model: torch, float32",
    "compiled": "the same under torch.compile, bf16",
    "float32": "its bundle, not yet compressed",
    "after": "the compressed bundle",
}


@dataclass(frozen=True)
class Bar:
    """One bar. share: of the longest one, 0 … 1; spread: in words."""

    label: str
    share: float
    text: str
    spread: str = ""
    tone: str = ""


def bars(record: RunRecord) -> list[tuple[str, list[Bar]]]:
    """Size and latency of every way of sampling that was measured: one group of bars per quantity."""
    measured = {name: record.measured[name] for name in WAYS if record.measured.get(name)}
    groups: list[tuple[str, list[tuple[str, float | None, str, str]]]] = []
    sizes = [(n, m.get("bytes"), bytes_text(m.get("bytes")), "") for n, m in measured.items()]
    groups.append(("Size on disk", sizes))
    for batch in times.batches(record):
        rows = []
        for name in measured:
            found = times.latency(record, name, batch)
            value = found.get("median_ms")
            rows.append((name, value, ms_text(value), times.range_text(found)))
        groups.append((times.title(batch) + ("" if batch == "1" else " at once"), rows))
    memory = [(n, m.get("memory_bytes"), bytes_text(m.get("memory_bytes")), "") for n, m in measured.items()]
    groups.append(("Peak memory", memory))
    out = []
    for title, rows in groups:
        known = [v for _, v, _, _ in rows if v]
        if known:
            drawn = [
                Bar(WAYS[n], (v or 0) / max(known), text, spread, "after" if n == "after" else "before")
                for n, v, text, spread in rows
            ]
            out.append((title, drawn))
    return out


def steps(record: RunRecord) -> list[dict[str, str]]:
    """What every step of compression did."""
    out = []
    for step in record.compression.get("steps") or []:
        parameters, macs = step.get("parameters") or [None, None], step.get("macs") or [None, None]
        counts = list((step.get("quantized") or {}).values())
        done, total = (sum(c.get(k, 0) for c in counts) for k in ("quantized", "total"))
        latency = step.get("latency") or {}
        first = next(iter(latency), None)
        out.append(
            {
                "kind": str(step.get("kind", "")),
                "parameters": count_text(parameters[1]),
                "macs": number_text(macs[1] / 1e6) + " M" if macs[1] is not None else NONE,
                "bytes": bytes_text(step.get("bytes")),
                "latency": ms_text(latency[first]) if first is not None else NONE,
                "int8": f"{done} of {total}" if total else "–",
                "error": f"{number_text(step['error'], 2)} σ" if step.get("error") is not None else NONE,
                "seconds": seconds_text(step.get("seconds")),
                "notes": " ".join(step.get("notes") or []),
            }
        )
    return out
