"""What the run was: model, data, training, stages, machine, bundle, recipe, the signatures of its figures."""

from __future__ import annotations

import json
from typing import Any

from niwaki.report import words
from niwaki.report.record import RunRecord, measures

__all__ = [
    "about_bundle",
    "about_data",
    "class_counts",
    "engine_name",
    "extractor_rows",
    "facts",
    "machine_rows",
    "signature_rows",
    "stage_rows",
    "training_facts",
    "whole_recipe",
]


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """Under the title: model, data, seed, date."""
    model = (record.recipe.get("model") or {}).get("name")
    data, spec = record.data, record.spec
    shape = " × ".join(map(str, spec.shape)) if spec else ""
    facts = [
        ("model", str(model or words.NONE)),
        (
            "data",
            " ".join(filter(None, [str(data.get("name", "")), f"({shape})" if shape else ""])) or words.NONE,
        ),
        ("seed", str(record.run.get("seed", words.NONE))),
        ("made", str(record.run.get("created", ""))[:10] or words.NONE),
    ]
    n = record.evaluation.get("n")
    if n:
        facts.insert(3, ("judged on", f"{words.count_text(n)} samples"))
    return facts


def engine_name(record: RunRecord) -> str:
    after = record.measured.get("after") or {}
    return f"{after['what']} on {after['engine']}" if after.get("engine") else "compressed bundle"


def training_facts(record: RunRecord) -> list[tuple[str, str]]:
    state = record.training or (record.run.get("legs") or {}).get("train") or {}
    facts = []
    if state.get("steps"):
        facts.append(("steps", words.count_text(state["steps"])))
    if state.get("parameters"):
        facts.append(("parameters", words.count_text(state["parameters"])))
    if state.get("samples_per_second"):
        facts.append(("samples per second", words.number_text(state["samples_per_second"])))
    if state.get("training_seconds"):  # a model that was given was trained elsewhere
        facts.append(("time in steps", words.seconds_text(state["training_seconds"])))
    facts += [(of["name"], of["text"]) for of in state.get("chosen") or ()]
    return facts


def extractor_rows(record: RunRecord) -> list[dict[str, str]]:
    """Which networks looked at the samples."""
    out = []
    for e in record.evaluation.get("extractors") or []:
        accuracy = e.get("accuracy") or {}
        told = ", ".join(f"{split} {100 * share:.1f} %" for split, share in accuracy.items())
        out.append({"name": str(e.get("name")), "dim": str(e.get("dim", "")), "accuracy": told})
    return out


def class_counts(record: RunRecord) -> list[dict[str, Any]]:
    """Samples of every class in every split, for the audit."""
    counts = ((record.data.get("audit") or {}).get("summary") or {}).get("class_counts") or {}
    names = list(next(iter(counts.values()), {}))
    most = max((counts[s][n] for s in counts for n in names), default=0)
    return [
        {"name": n, "counts": [(s, counts[s][n], counts[s][n] / most if most else 0) for s in counts]}
        for n in names
    ]


def about_data(record: RunRecord) -> dict[str, Any]:
    """Name and sizes of the splits; empty where the run has not read its data."""
    if not record.data:
        return {}
    sizes = ((record.data.get("audit") or {}).get("summary") or {}).get("samples")
    sizes = sizes or record.data.get("samples") or {}
    told = words.sentence_list([f"{words.count_text(n)} {split}" for split, n in sizes.items()])
    return {"name": record.data.get("name", ""), "sizes": told}


def stage_rows(record: RunRecord) -> list[tuple[str, str, str]]:
    return [
        (
            name,
            str(state.get("status", "")),
            words.seconds_text(state.get("seconds")) if state.get("seconds") else "–",
        )
        for name, state in record.stages.items()
        if name != "report"
    ]


def machine_rows(record: RunRecord) -> list[tuple[str, str]]:
    """Where figures were taken: what the run says, completed by what the measuring says."""
    found = dict(record.run.get("machine") or {})
    for way in record.measured.values():
        found |= way.get("machine") or {}
    rows = []
    for key, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append((key, words.bytes_text(value) if key == "memory" and isinstance(value, int) else text))
    after = record.measured.get("after") or {}
    if after.get("threads"):
        rows.append(("threads", str(after["threads"])))
    return rows


def signature_rows(record: RunRecord) -> list[tuple[str, str]]:
    """What repeats each figure exactly."""
    rows = [("data fingerprint", str(record.data["fingerprint"]))] if record.data.get("fingerprint") else []
    rows += [
        (f"features {e['name']}", str(e.get("fingerprint", "")))
        for e in record.evaluation.get("extractors") or []
    ]
    seen = set()
    for measure in measures(record.evaluation):
        text = str(measure.record["signature"])
        if text not in seen:
            seen.add(text)
            rows.append((" / ".join(measure.path[-2:]), text))
    return rows


def about_bundle(record: RunRecord) -> dict[str, Any]:
    """The bundle's own words about itself."""
    if record.manifest is None or record.bundle is None:
        return {"error": record.bundle_error} if record.bundle_error else {}
    manifest = record.manifest
    graphs = []
    for name, graph in manifest.graphs.items():
        counts = graph.quantized or {}
        graphs.append((name, graph.role, f"{counts.get('quantized', 0)} of {counts.get('total', 0)}"))
    return {
        "error": "",
        "file": record.bundle.name,
        "sampler": manifest.sampler.kind,
        "evaluations": manifest.sampler.evaluations(),
        "graphs": graphs,
    }


def whole_recipe(record: RunRecord) -> str:
    """The resolved recipe as it stands in the run directory."""
    path = record.path / "recipe.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else json.dumps(record.recipe, indent=2)
