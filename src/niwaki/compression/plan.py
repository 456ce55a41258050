"""Carrying out a plan: each step is saved, read back, checked and measured; finished ones are found again."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.compression.arithmetic import macs, parameters
from niwaki.compression.changes import quantized_of, refuse_nothing, sparsity_of
from niwaki.compression.config import CompressConfig, PruneConfig, StepConfig, check_order, recovery_of
from niwaki.compression.finished import (
    BUNDLE,
    RECORD,
    directory_of,
    finished_record,
    finished_records,
    has_weights,
    keys_of,
    last_whole,
    tidy,
)
from niwaki.compression.forewarned import forewarned_once
from niwaki.compression.forward import check, shapes
from niwaki.compression.record import Record
from niwaki.compression.reload import load_step, save_step
from niwaki.compression.sample_error import reference_samples, sample_error
from niwaki.compression.steps import Outcome, StepContext, step_of
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki.core.store import hash_json, hash_tensors, read_json, write_bytes, write_json
from niwaki.data.inputs import examples_of
from niwaki.deployment import bundle_bytes, export_graphs, measure_bundle, package
from niwaki.deployment.fast_path import OffPath
from niwaki.features import Extractor
from niwaki.models.io import model_record, save_model

__all__ = ["Compressed", "compress"]

Progress = Callable[[int, int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Compressed:
    """What a plan made.

    model:   the pruned and trained-on torch model, read back from disk (float: integers live in the bundle)
    bundle:  the deployable result, quantized where the plan says so; not written where none was asked for
    records: one per step
    warnings: what of the plan the engine computes more slowly than a step suggests
    """

    model: GenerativeModel
    bundle: Path
    records: list[Record]
    warnings: tuple[OffPath, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.bundle.name,
            "warnings": [warning.to_json() for warning in self.warnings],
            "steps": [record.to_json() for record in self.records],
        }


@dataclass
class _Run:
    """What is passed from step to step.

    teacher: whom fine-tuning imitates: the original, or what a step made that may not be led back to it
    given:   samples of the original (`reference_samples`), where they are known
    """

    original: GenerativeModel
    teacher: GenerativeModel
    config: CompressConfig
    workdir: Path
    given: np.ndarray | None
    condition: Any
    shapes: list[tuple[int, ...]]
    extractor: Extractor | None
    bundle: bool
    records: list[Record] = field(default_factory=list)

    @cached_property
    def reference(self) -> np.ndarray:
        """Made when a step is carried out: a plan whose steps are all known needs no samples."""
        return reference_samples(self.original, self.condition) if self.given is None else self.given


def compress(
    model: GenerativeModel,
    dataset: Any,
    config: CompressConfig,
    *,
    workdir: Path,
    seed: int,
    condition: Any = None,
    progress: Progress | None = None,
    on_step: Callable[[int, str], None] | None = None,
    engine: str = "openvino",
    forewarn: bool = True,
    warn: Callable[[tuple[OffPath, ...]], None] | None = None,
    extractor: Extractor | None = None,
    bundle: bool = True,
    reference: np.ndarray | None = None,
) -> Compressed:
    """Carry out the plan `config` on `model`, which stays as it is.

    dataset:   a `niwaki.data.Dataset`; only its training split is used. None for plans without training
    workdir:   gets `model.json` and `model.safetensors` (the final torch model), `model.niwaki` (the bundle),
               `compression.json` and `steps/`, one directory per step. A second call finds finished steps
               again
    condition: what samples for calibration and checks are asked for; None is the model's default
    progress:  called with (done, in all, figures) of the step under way
    on_step:   called with its number from 1 and its kind when a step begins to work
    engine:    which one the plan is for: `openvino`, `onnxruntime`
    forewarn:  whether operators that leave the engine's fast path are looked for, which takes an export;
               where many plans of one model are carried out, that is spared
    warn:      called once, before the first step, with every operator that will leave that engine's fast
               path; not where there are none
    extractor: as which samples are compared by steps that match them (`sampling` with a matched temperature);
               None compares their values
    bundle:    off, nothing is exported: the model alone is asked for, and the plan does not end with `pack`
    reference: what `reference_samples` makes of the model, where many plans of one model are carried out
    A step that finds nothing to do leaves the model as it is, says why in its notes, and the plan goes on.
    Raises CallError for an order that makes no sense, before anything is done; NiwakiError where a step would
    leave a broken model.
    """
    check_order(config.steps)
    if dataset is None and any(isinstance(s, PruneConfig) and s.trains for s in config.steps):
        raise CallError("this pruning trains in between, so compress() needs a dataset")
    workdir = Path(workdir)
    original = copy.deepcopy(model).cpu().eval()
    run = _Run(original, original, config, workdir, reference, condition, shapes(original), extractor, bundle)
    key = hash_json([model_record(original), hash_tensors(original.state_dict()), seed])
    if dataset is not None:
        key = hash_json([key, dataset.fingerprint])
    place = workdir / "warnings.json"
    warnings = forewarned_once(original, config.steps, engine, place, key) if forewarn else ()
    if warn and warnings:
        warn(warnings)
    keys = keys_of(config, key, extractor)
    done, current = _gone_on_from(run, keys)
    for k, step in list(enumerate(config.steps))[done:]:
        directory = _directory(run, k)
        found = _finished(run, k, directory, keys[k])
        if found is not None:
            current = found
            continue
        if on_step:
            on_step(k + 1, step.kind)
        current = _carried_out(run, step, current, directory, keys[k], k, seed, dataset, progress or _quietly)
    made = workdir / BUNDLE
    if bundle:
        write_bytes(made, (_directory(run, len(config.steps) - 1) / BUNDLE).read_bytes())
    save_model(current, workdir)
    result = Compressed(current, made, run.records, warnings)
    write_json(workdir / "compression.json", result)
    return result


def _quietly(done: int, total: int, info: Mapping[str, Any]) -> None: ...


def _directory(run: _Run, k: int) -> Path:
    return directory_of(run.workdir, run.config.steps, k)


def _gone_on_from(run: _Run, keys: list[str]) -> tuple[int, GenerativeModel]:
    """How many steps need not be looked at any more, and the model that they have made."""
    places = [_directory(run, k) for k in range(len(keys))]
    records = finished_records(places, keys)
    found = last_whole(places, records, [_wants_bundle(run, k) for k in range(len(records))])
    if found is None:
        return 0, run.original
    last, teacher = found
    for place, record in zip(places[: last + 1], records, strict=False):
        tidy(place)
        run.records.append(Record.from_json(record["record"]))
    if teacher is not None:
        run.teacher = load_step(places[teacher], run.original)
    return last + 1, load_step(places[last], run.original)


def _wants_bundle(run: _Run, k: int) -> bool:
    """Whether the result of step k is packaged: to be measured, returned, or packed by the next step."""
    steps = run.config.steps
    if not run.bundle:
        return False
    return run.config.measure or k + 1 == len(steps) or steps[k + 1].kind == "pack"


def _finished(run: _Run, k: int, directory: Path, key: str) -> GenerativeModel | None:
    """The model of a step that was carried out before, from the same weights and settings."""
    kept = finished_record(directory, key)
    lacks = _wants_bundle(run, k) and not (directory / BUNDLE).exists()
    if kept is None or lacks or not has_weights(directory):
        return None
    tidy(directory)
    run.records.append(Record.from_json(kept["record"]))
    found = load_step(directory, run.original)
    if kept.get("teaches"):
        run.teacher = found
    return found


def _carried_out(
    run: _Run,
    step: StepConfig,
    model: GenerativeModel,
    directory: Path,
    key: str,
    k: int,
    seed: int,
    dataset: Any,
    on_progress: Callable[[int, int, Mapping[str, Any]], None],
) -> GenerativeModel:
    begun = directory / "begun.json"
    if directory.exists() and not (begun.exists() and read_json(begun).get("key") == key):
        shutil.rmtree(directory)  # the rest of another plan
    directory.mkdir(parents=True, exist_ok=True)
    write_json(begun, {"key": key})
    before, started = (parameters(model), macs(model)), time.perf_counter()
    previous = _directory(run, k - 1) / BUNDLE if k else None
    recovery = recovery_of(run.config.steps, k)
    context = StepContext(
        run.teacher, dataset, seed + k, directory, run.condition, on_progress, recovery, previous,
        run.extractor, run.bundle,
    )  # fmt: skip
    try:
        outcome = step_of(step.kind).carry_out(model, step, context)
        check(outcome.model, run.shapes)
        again = save_step(outcome.model, directory, run.original)
        refuse_nothing(step, model, again)
    except NothingToDo as found:
        outcome = _idle(model, previous, directory, str(found))
        again = save_step(outcome.model, directory, run.original)
    bundle = outcome.bundle or (_bundle(run, again, outcome, directory) if _wants_bundle(run, k) else None)
    seconds = time.perf_counter() - started
    record = Record(
        kind=step.kind,
        settings=step.model_dump(mode="json"),
        parameters=(before[0], parameters(again)),
        macs=(before[1], macs(again)),
        bytes=bundle_bytes(bundle) if bundle else None,
        latency=_latency(run.config, bundle) if bundle else {},
        error=sample_error(run.reference, again, bundle, run.condition),
        quantized=quantized_of(outcome),
        seconds=seconds,
        widths=outcome.widths,
        skipped=outcome.skipped,
        notes=outcome.notes,
        idle=outcome.idle,
        sparsity=sparsity_of(step, again, run.original),
    )
    write_json(directory / RECORD, {"key": key, "record": record, "teaches": outcome.teaches})
    run.records.append(record)
    if outcome.teaches:
        run.teacher = again
    tidy(directory)
    return again


def _idle(model: GenerativeModel, previous: Path | None, directory: Path, reason: str) -> Outcome:
    """Of a step that finds nothing to do: the model, and the bundle of the step before, as they are."""
    bundle = None
    if previous is not None and previous.exists():
        bundle = directory / BUNDLE
        write_bytes(bundle, previous.read_bytes())
    return Outcome(copy.deepcopy(model), bundle=bundle, notes=(f"nothing to do: {reason}",), idle=True)


def _bundle(run: _Run, model: GenerativeModel, outcome: Outcome, directory: Path) -> Path:
    if not outcome.graphs:
        outcome.graphs = export_graphs(model, directory / "graphs")
    examples = examples_of(model, run.condition)
    return package(model, outcome.graphs, directory / BUNDLE, examples=examples)


def _latency(config: CompressConfig, bundle: Path) -> dict[str, float]:
    if not config.measure:
        return {}
    found = measure_bundle(bundle, batches=config.batches, rounds=config.rounds, memory=False)
    return {str(n): found.ms(n) for n in config.batches}
