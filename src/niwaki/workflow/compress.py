"""Compress: the recipe's plan on the trained model; the pruned weights in `compressed/`, the record in
`compression.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.compression import SensitivityConfig
from niwaki.compression import compress as carry_out
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.recipe import Recipe
from niwaki.workflow.findings import fitness
from niwaki.workflow.off_path import tell_off_path
from niwaki.workflow.own import compress_model
from niwaki.workflow.reporter import Reporter, counter
from niwaki.workflow.session import Session, hash_directory, open_session

__all__ = ["compress", "compress_inputs", "compress_leg"]


def compress(
    what: str | Path | Recipe | GenerativeModel,
    overrides: Sequence[str] = (),
    *,
    reporter: Reporter | None = None,
    **own: Any,
) -> dict[str, Any]:
    """Carry out the compression plan of a run on its trained model. Returns `compression.json`.

    A model that belongs to no run (`niwaki.adapt`) is compressed as `compress_model` says, which takes `own`:
    `data`, `out`, `plan` …

    Raises CallError where the recipe has no plan, NiwakiError where there is no trained model.
    """
    if isinstance(what, GenerativeModel):
        if not {"data", "out"} <= own.keys():
            raise CallError("to compress a model, name its data and where the result goes: data=…, out=…")
        return compress_model(what, reporter=reporter, **own)
    session = open_session(what, overrides, None, reporter)
    if session.recipe.compress is None:
        raise CallError("the recipe has no 'compress' section, so there is nothing to do; add its 'steps'")
    with session.run.hold():
        compress_leg(session)
    return dict(read_json(session.run.compression))


def compress_inputs(session: Session) -> dict[str, Any]:
    """All that the compressed model is made from."""
    plan = session.recipe.compress
    return {
        "model": session.run.result("train"),
        "data": session.fingerprint(),
        "compress": None if plan is None else plan.model_dump(mode="json"),
        "seed": session.recipe.seed,
    }


def compress_leg(session: Session) -> bool:
    """Carry out the plan if that is not done yet. Returns whether there was work."""
    run, plan = session.run, session.recipe.compress
    if plan is None:
        return False
    inputs = compress_inputs(session)
    if run.holds("compress", inputs):
        return False
    model, dataset = session.model, session.dataset
    with run.working("compress", inputs, (run.compressed, run.compression)) as record:
        if plan.sensitivity is not None:
            _look_at_layers(session, plan.sensitivity)
        session.reporter.stage("compress", " → ".join(step.kind for step in plan.steps))
        made = carry_out(
            model,
            dataset,
            plan,
            workdir=run.compressed,
            seed=session.recipe.seed,
            progress=counter(session.reporter),
            engine=session.recipe.export.engine,
            warn=lambda found: tell_off_path(found, session.reporter),
            extractor=session.extractors[0] if any(step.needs_extractor for step in plan.steps) else None,
        )
        write_json(
            run.compression,
            {
                "plan": plan,
                "seed": session.recipe.seed,
                "warnings": [w.to_json() for w in made.warnings],
                "steps": [jsonable(r) for r in made.records],
            },
        )
        record["bundle"] = str(made.bundle.relative_to(run.path))
        record["parameters"] = sum(p.numel() for p in made.model.parameters())
        record["result"] = hash_directory(made.bundle)
    return True


def _look_at_layers(session: Session, config: SensitivityConfig) -> None:
    """`sensitivity.json`: what each layer costs; an interrupted measurement goes on."""
    from niwaki.compression.sensitivity.measure import sensitivity

    found = fitness(session.dataset, session.extractors, cache=session.cache, reporter=session.reporter)
    session.reporter.stage("layers", "what each of them costs when it alone is pruned or rounded")
    sensitivity(
        session.model,
        session.dataset,
        config,
        extractors=session.extractors,
        fit={name: record.get("fit") for name, record in found.items()},
        seed=session.seed,
        path=session.run.path / "sensitivity.json",
        progress=counter(session.reporter),
    )
