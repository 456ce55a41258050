"""The card that travels in a bundle: what it is, what it makes, what was measured, what compression cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import ValueSpec

__all__ = ["card"]


def card(manifest: Manifest) -> str:
    """Markdown for people; every figure in it is also in the manifest."""
    return "\n".join(_lines(manifest)) + "\n"


def _values(spec: ValueSpec) -> str:
    """The values of one sample in words."""
    if spec.is_tokens:
        return f"{spec.levels} tokens"
    if math.isinf(spec.low) and math.isinf(spec.high):
        return "values without bounds"
    stored = f", {spec.levels} levels" if spec.levels else ""
    return f"values {spec.low:g} … {spec.high:g}{stored}"


def _lines(m: Manifest) -> Iterator[str]:
    spec = m.spec
    yield f"# {m.name}"
    yield ""
    yield f"A generative model, bundled by niwaki {m.niwaki}. It runs with `niwaki-runtime`, without torch:"
    yield ""
    yield "```python"
    yield "import niwaki_runtime"
    yield ""
    yield 'samples = niwaki_runtime.load("PATH.niwaki").sample(16, seed=0)'
    yield "```"
    yield ""
    yield "## What it makes"
    yield ""
    shape = " × ".join(map(str, spec.shape))
    yield f"- samples: {spec.modality}, {shape}, {_values(spec)}"
    for name, condition in m.conditions.items():
        value = condition.value
        names = f" ({', '.join(value.names)})" if 0 < len(value.names) <= 40 else ""
        size = f" of {condition.size}" if condition.size else ""
        yield f"- condition `{name}`: {value.modality}{size}{names}"
    for name, program in m.programs.items():
        asked = ", ".join(program.inputs) or "noise"
        yield f"- program `{name}`: {asked} → {program.output.modality} {program.output.shape or ''}".rstrip()
    yield f"- sampling: {m.sampler.kind}, {m.sampler.evaluations()} network evaluations per sample"
    for name, graph in m.graphs.items():
        total = graph.quantized.get("total", 0)
        done = graph.quantized.get("quantized", 0)
        yield f"- graph `{name}` ({graph.role}): {done} of {total} weighted operators in int8"
    for title, record in (
        ("What was measured", m.measured),
        ("What compression cost", m.verdict),
        ("Where it comes from", m.provenance),
    ):
        yield ""
        yield f"## {title}"
        yield ""
        yield from _table(record) if record else ("Not recorded.",)
    yield ""
    yield "## Licence"
    yield ""
    yield "Not stated: whoever publishes this bundle names the licence of the weights and of the data here."


def _table(record: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for key, value in _flat(record):
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        yield f"| {key} | {text.replace('|', '/').replace(chr(10), ' ')} |"


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 12:
            yield f"{prefix}{key}", f"{len(value)} values"
        else:
            yield f"{prefix}{key}", value
