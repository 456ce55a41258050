"""Write the page: read the run, fill the template, put the file in place whole."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from niwaki.core.store import write_text
from niwaki.core.version import __version__
from niwaki.report import (
    cost,
    facts,
    figures,
    found_plans,
    gains,
    gallery,
    gists,
    glance,
    health,
    judgement,
    memory,
    modes,
    moved,
    pictures,
    plane,
    remembered,
    sections,
    sensitivity,
    sheet,
    times,
    trust,
)
from niwaki.report.record import RunRecord, read_run

__all__ = ["write_report"]

HERE = Path(__file__).parent
SCRIPT = "".join((HERE / name).read_text(encoding="utf-8") for name in ("slider.js", "page.js"))
"""Put into the page whole; its security policy lets this script run and no other."""
STYLE = "".join(
    (HERE / name).read_text(encoding="utf-8") for name in ("palette.css", "slider.css", "style.css")
)


def write_report(run: Path) -> Path:
    """`report.html` in the run directory `run`, self-contained: no request leaves it, and
    no script runs in it but its own, which folds, filters and enlarges what is there.

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
    shown = context(record)
    page = environment.get_template("page.html.j2").render(**shown, gists=gists.gists(record, shown))
    out = run / "report.html"
    write_text(out, page)
    return out


def context(record: RunRecord) -> dict[str, Any]:
    """All values that the template shows."""
    return {
        "style": STYLE,
        "script": SCRIPT,
        "script_hash": f"sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}",
        "name": record.name,
        "version": __version__,
        "facts": facts.facts(record),
        "failure": record.failure,
        "lead": gains.lead(record),
        "headline": gains.headline(record),
        "moved": moved.moved_texts(moved.moved_of(record)),
        "compared": bool(record.evaluation.get("bundle") or record.sections.get("after")),
        "before_name": (record.measured.get("before") or {}).get("what", "trained model"),
        "after_name": facts.engine_name(record),
        "on_threads": times.threads_text(record),
        "by_samples": record.judged_by_samples,
        "with_classes": record.spec is None or bool(record.spec.classes),
        "glance": glance.glance(record),
        "samples": sheet.samples(record),
        "wide": _wide(record),
        "charts": figures.training_charts(record.metrics),
        "training": facts.training_facts(record),
        "health": health.health_rows(record),
        "pairs": gallery.pairs(record),
        "no_pairs": gallery.no_pairs(record),
        "damage": gallery.damage_gallery(record),
        "coverage": judgement.class_coverage(record),
        "bars": cost.bars(record),
        "steps": cost.steps(record),
        "layers": sensitivity.heat(record),
        "off_path": sensitivity.off_path(record),
        "found": found_plans.found_plans(record),
        "verdicts": judgement.verdicts(record.comparison),
        "remembered": remembered.remembered(record),
        "paired": judgement.paired(record),
        "judges_say": sections.judges(record),
        "plane": plane.planes(record),
        "quality": judgement.quality(record),
        "grey": trust.distrusted(record),
        "judges": trust.judges(record),
        "findings": trust.findings(record),
        "modes": modes.modes(record),
        "copies": memory.copies(record),
        "extractors": facts.extractor_rows(record),
        "audit": record.data.get("audit") or {},
        "data": facts.about_data(record),
        "classes": facts.class_counts(record),
        "stages": facts.stage_rows(record),
        "machine": facts.machine_rows(record),
        "versions": record.run.get("versions") or {},
        "signatures": facts.signature_rows(record),
        "bundle": facts.about_bundle(record),
        "recipe": facts.whole_recipe(record),
    }


def _wide(record: RunRecord) -> bool:
    """Whether samples are plots, which take more room than pictures."""
    made, spec = record.samples.get("before"), record.spec
    return made is not None and spec is not None and pictures.kind(made[0], spec, record.files) == "plot"
