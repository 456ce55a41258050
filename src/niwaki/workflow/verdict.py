"""Verdict: the bundle's samples, made on its engine, beside the torch model's of the same seeds."""

from __future__ import annotations

from typing import Any

import torch

from niwaki.core.contract import NiwakiError
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.evaluation import compare
from niwaki.evaluation import evaluate as judge
from niwaki.workflow.findings import findings
from niwaki.workflow.kept import read_samples, write_samples
from niwaki.workflow.margins import keep_margins, kept_margins, margins_file
from niwaki.workflow.reporter import counter
from niwaki.workflow.seal import seal
from niwaki.workflow.session import Session
from niwaki_runtime import load as load_bundle

__all__ = ["verdict_inputs", "verdict_leg"]


def verdict_inputs(session: Session) -> dict[str, Any]:
    """All that the verdict depends on."""
    return {
        "evaluation": session.run.result("evaluate"),
        "bundle": session.run.result("export"),
        "engine": session.recipe.export.model_dump(mode="json", include={"engine", "precision", "threads"}),
        "evaluate": session.recipe.evaluate.model_dump(mode="json"),
    }


def verdict_leg(session: Session) -> bool:
    """Judge the run's bundle if that is not done yet, and seal it with what was found. Returns whether there
    was work."""
    run, config = session.run, session.recipe.export
    inputs = verdict_inputs(session)
    if run.holds("verdict", inputs):
        return False
    dataset, extractors = session.dataset, session.extractors
    outputs = (run.evaluation, run.samples, run.bundle)
    with run.working("verdict", inputs, outputs) as record:
        samples = read_samples(run.samples)
        before, labels = samples["before"], samples.get("labels")
        n = len(before)
        bundle = load_bundle(
            run.bundle, engine=config.engine, precision=config.precision, threads=config.threads
        )
        session.reporter.stage("verdict", f"{n:,} pairs of samples, torch and {bundle.engine}")
        after = bundle.sample(
            n,
            seed=session.seed,
            condition=session.condition(dict(bundle.conditions), n),
            progress=counter(session.reporter),
        )
        if after.shape != before.shape:
            raise NiwakiError(
                f"{run.bundle} makes samples of shape {after.shape[1:]}, the model {before.shape[1:]}"
            )
        evaluation = judge(
            after,
            labels,
            dataset,
            extractors,
            seed=session.seed,
            metrics=session.recipe.evaluate.metrics,
        )
        other = findings(after, labels, evaluation, dataset, extractors, seed=session.seed)
        nearest = dataset.train.values(torch.from_numpy(evaluation.copies.index)).cpu().numpy()
        kept = margins_file(run.path)
        comparison = compare(
            before,
            after,
            dataset,
            extractors,
            labels=labels,
            seed=session.seed,
            calibration=kept_margins(kept),
        )
        keep_margins(kept, comparison.calibration)
        found = jsonable(comparison)
        write_samples(
            run.samples,
            before=before,
            after=after,
            labels=labels,
            damage=comparison.damage,
            nearest=nearest,
        )
        known = read_json(run.evaluation)
        for part, what in other.items():
            known.setdefault(part, {})["bundle"] = what
        write_json(
            run.evaluation,
            {**known, "bundle": jsonable(evaluation), "comparison": found, "engine": bundle.engine},
        )
        verdicts = {"fidelity": found["fidelity"], "diversity": found["diversity"]}
        compression = read_json(run.compression)
        compression["verdict"] = verdicts
        compression["measured"]["after"]["bytes"] = _seal(session, compression["measured"]["after"], verdicts)
        write_json(run.compression, compression)
        record["verdict"] = {axis: v["outcome"] for axis, v in verdicts.items()}
        record["result"] = record["inputs"]
    return True


def _seal(session: Session, measured: dict[str, Any], verdicts: dict[str, Any]) -> int:
    """Write figures, verdicts and provenance into the run's bundle; returns its bytes on disk."""
    run = session.run
    provenance = {
        "recipe": session.recipe.model_dump(mode="json", exclude={"data": {"path"}}),
        "data": session.fingerprint(),
        "seed": session.recipe.seed,
        "versions": run.info["versions"],
    }
    # A file cannot state its own size for sure.
    figures = {k: v for k, v in measured.items() if k != "bytes"}
    seal(
        run.bundle,
        run.bundle,
        name=session.recipe.name,
        measured=figures,
        verdict=verdicts,
        provenance=provenance,
    )
    return run.bundle.stat().st_size
