"""Write the page: read the run, fill the template, put the file in place whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from niwaki import __version__
from niwaki.report import figures, gains, judgement, pictures, trust, words
from niwaki.report.record import RunRecord, measures, read_run
from niwaki.store import write_text

__all__ = ["write_report"]

HERE = Path(__file__).parent
SAMPLES, PAIRS, WORST = 60, 12, 12  # and at least one sample of each class


def write_report(run: Path) -> Path:
    """`report.html` in the run directory `run`, self-contained: no request leaves it, no script runs in it.

    What the run has not measured is said to be not measured. Raises NiwakiError where `run` is no run
    directory or one of its files is broken.
    """
    run = Path(run)
    record = read_run(run)
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(**context(record))
    out = run / "report.html"
    write_text(out, page)
    return out


def context(record: RunRecord) -> dict[str, Any]:
    """All values that the template shows."""
    damage, unit = judgement.damage_of(record)
    return {
        "style": (HERE / "style.css").read_text(),
        "name": record.name,
        "version": __version__,
        "facts": _facts(record),
        "lead": gains.lead(record),
        "headline": gains.headline(record),
        "before_name": (record.measured.get("before") or {}).get("what", "trained model"),
        "after_name": _engine(record),
        "samples": _samples(record),
        "charts": figures.training_charts(record.metrics),
        "training": _training(record),
        "pairs": _pairs(record, damage),
        "worst": _worst(record, damage),
        "damage_unit": unit,
        "damage_chart": None
        if damage is None or len(damage) < 8
        else figures.histogram("damage", damage, unit.split("; ")[0]),
        "coverage": judgement.class_coverage(record),
        "bars": gains.bars(record),
        "steps": gains.steps(record),
        "verdicts": judgement.verdicts(record),
        "quality": judgement.quality(record),
        "unfit": trust.unfit(record),
        "judges": trust.judges(record),
        "findings": trust.findings(record),
        "extractors": _extractors(record),
        "copies": _copies(record),
        "audit": record.data.get("audit") or {},
        "data": _data(record),
        "classes": _class_counts(record),
        "legs": _legs(record),
        "machine": _machine(record),
        "versions": record.run.get("versions") or {},
        "signatures": _signatures(record),
        "bundle": _bundle(record),
        "recipe": _recipe(record),
    }


def _facts(record: RunRecord) -> list[tuple[str, str]]:
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


def _engine(record: RunRecord) -> str:
    after = record.measured.get("after") or {}
    return f"{after['what']} on {after['engine']}" if after.get("engine") else "compressed bundle"


def _labels(record: RunRecord) -> np.ndarray | None:
    labels = record.samples.get("labels")
    return None if labels is None else labels.astype(int)


def _caption(record: RunRecord, i: int) -> str:
    labels = _labels(record)
    return f"sample {i}" if labels is None else record.class_name(int(labels[i]))


def _samples(record: RunRecord) -> dict[str, Any]:
    """A sheet of samples of what the run ended with; a chart where they are no pictures."""
    kept, spec = record.samples, record.spec
    side = "after" if "after" in kept else "before"
    if side not in kept or spec is None:
        return {}
    of = "the compressed bundle on its engine" if side == "after" else "the trained model"
    chosen = kept[side]
    if not pictures.drawable(spec):
        sets: dict[str, np.ndarray] = {k: kept[k] for k in ("before", "after") if k in kept}
        return {"of": of, "chart": figures.points("first two coordinates", sets), "tiles": [], "columns": 0}
    index = pictures.spread(_labels(record), len(chosen), max(SAMPLES, spec.classes))
    classes = spec.classes if _labels(record) is not None else 0
    tiles = [(pictures.picture(chosen[i], spec), _caption(record, i)) for i in index]
    return {"of": of, "tiles": tiles, "columns": classes if 5 <= classes <= 12 else 0, "chart": None}


def _pair(record: RunRecord, i: int, damage: np.ndarray | None) -> dict[str, str]:
    spec, kept = record.spec, record.samples
    assert spec is not None
    before, after = kept["before"][i], kept["after"][i]
    nearest = kept.get("nearest")
    return {
        "before": pictures.picture(before, spec),
        "after": pictures.picture(after, spec),
        "difference": pictures.difference(before, after, spec),
        "nearest": pictures.picture(nearest[i], spec) if nearest is not None and len(nearest) > i else "",
        "caption": _caption(record, i),
        "note": "" if damage is None else words.number_text(float(damage[i]), 2),
    }


def _paired(record: RunRecord) -> bool:
    return {"before", "after"} <= record.samples.keys() and pictures.drawable(record.spec)


def _pairs(record: RunRecord, damage: np.ndarray | None) -> list[dict[str, str]]:
    if not _paired(record):
        return []
    index = pictures.spread(_labels(record), len(record.samples["before"]), PAIRS)
    return [_pair(record, i, damage) for i in index]


def _worst(record: RunRecord, damage: np.ndarray | None) -> list[dict[str, str]]:
    if damage is None or not _paired(record):
        return []
    return [_pair(record, int(i), damage) for i in np.argsort(-damage, kind="stable")[:WORST]]


def _training(record: RunRecord) -> list[tuple[str, str]]:
    leg = (record.run.get("legs") or {}).get("train") or {}
    facts = []
    if leg.get("steps"):
        facts.append(("steps", words.count_text(leg["steps"])))
    if leg.get("parameters"):
        facts.append(("parameters", words.count_text(leg["parameters"])))
    if leg.get("samples_per_second"):
        facts.append(("samples per second", words.number_text(leg["samples_per_second"])))
    if leg.get("training_seconds") is not None:
        facts.append(("time in steps", words.seconds_text(leg["training_seconds"])))
    return facts


def _extractors(record: RunRecord) -> list[dict[str, str]]:
    """Which networks looked at the samples."""
    out = []
    for e in record.evaluation.get("extractors") or []:
        accuracy = e.get("accuracy") or {}
        told = ", ".join(f"{split} {100 * share:.1f} %" for split, share in accuracy.items())
        out.append({"name": str(e.get("name")), "dim": str(e.get("dim", "")), "accuracy": told})
    return out


def _copies(record: RunRecord) -> str:
    """How many generated samples are training samples."""
    told = []
    for tree, side in (("trained", "trained model"), ("bundle", "bundle")):
        found = (record.evaluation.get(tree) or {}).get("copies") or {}
        if found.get("identical") is not None:
            told.append(f"{words.count_text(found['identical'])} of the {side}'s")
    return (
        f"Generated samples that equal a training sample to half a grey level: {words.sentence_list(told)}."
        if told
        else ""
    )


def _class_counts(record: RunRecord) -> list[dict[str, Any]]:
    """Samples of every class in every split, for the audit."""
    counts = ((record.data.get("audit") or {}).get("summary") or {}).get("class_counts") or {}
    names = list(next(iter(counts.values()), {}))
    most = max((counts[s][n] for s in counts for n in names), default=0)
    return [
        {"name": n, "counts": [(s, counts[s][n], counts[s][n] / most if most else 0) for s in counts]}
        for n in names
    ]


def _data(record: RunRecord) -> dict[str, Any]:
    """Name and sizes of the splits; empty where the run has not read its data."""
    if not record.data:
        return {}
    sizes = ((record.data.get("audit") or {}).get("summary") or {}).get("samples")
    sizes = sizes or record.data.get("samples") or {}
    told = words.sentence_list([f"{words.count_text(n)} {split}" for split, n in sizes.items()])
    return {"name": record.data.get("name", ""), "sizes": told}


def _legs(record: RunRecord) -> list[tuple[str, str, str]]:
    legs = record.run.get("legs") or {}
    return [
        (
            name,
            str(leg.get("status", "")),
            words.seconds_text(leg.get("seconds")) if leg.get("seconds") else "–",
        )
        for name, leg in legs.items()
        if name != "report"
    ]


def _machine(record: RunRecord) -> list[tuple[str, str]]:
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


def _signatures(record: RunRecord) -> list[tuple[str, str]]:
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


def _bundle(record: RunRecord) -> dict[str, Any]:
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


def _recipe(record: RunRecord) -> str:
    """The resolved recipe as it stands in the run directory."""
    path = record.path / "recipe.yaml"
    return path.read_text() if path.exists() else json.dumps(record.recipe, indent=2)
