"""What a stream is held against, in the features of the verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from niwaki.core.array_files import npz_bytes, read_array_file
from niwaki.core.contract import CallError, Runner
from niwaki.core.store import hash_bytes, hash_directory, hash_json, write_bytes
from niwaki.evaluation.drift.channel import Reference, Stream
from niwaki.evaluation.equivalence.margins import first_features
from niwaki.evaluation.statistics.samples import split_features
from niwaki.modalities.provenance import files_of_model
from niwaki.workflow.context import EvaluationContext

__all__ = ["digest", "reference_of", "released"]

_TRAIN, _RELEASED = 4096, 2000
_SEED = 11 << 40
"""Of the outputs at release: apart from all that is evaluated."""


def reference_of(
    context: EvaluationContext, stream: Stream, runner: Runner | None, model: Path | None, folder: Path
) -> Reference:
    """Inputs are held against real samples that no model has learned from (validation and test), outputs
    against what the model makes when it is released.

    runner: the model, which lies at `model`; for outputs
    folder: of the watch; the features of what the model makes are written there, and read by later calls for
            as long as model, data and extractor are the same
    Raises CallError where the data are no amounts, so that no extractor looks at them.
    """
    dataset = context.dataset
    if dataset.spec.x.is_tokens:
        raise CallError(
            "tokens are not watched: no extractor looks at them; images, sound, series and vectors are"
        )
    extractor = context.extractors[0]
    train = first_features(extractor, dataset, "train", _TRAIN)
    if stream == "inputs":
        parts = [split_features(extractor, dataset, split) for split in ("validation", "test")]
        return Reference(train, np.concatenate(parts))
    if runner is None:
        raise CallError("outputs are held against those of a model; give a run or a bundle")
    made_by = "" if model is None else hash_directory(files_of_model(model))
    key = hash_json([made_by, dataset.fingerprint, extractor.fingerprint, _RELEASED, _SEED])
    file = folder / "released.npz"
    if file.exists() and model is not None:
        known = read_array_file(file)
        if str(known["key"]) == key:
            return Reference(train, known["features"])
    features = extractor(released(context, runner, _RELEASED))
    write_bytes(file, npz_bytes(features=features, key=np.array(key)))
    return Reference(train, features)


def released(context: EvaluationContext, runner: Runner, n: int, start: int = 0) -> np.ndarray:
    """Samples `(n, *shape)` of a model, asked for as the validation split asks."""
    judge = context.judge("samples")
    if not judge.applies(runner, context.dataset):
        raise CallError("the samples of this model are of no column of the data; its outputs are not watched")
    return judge.evidence(runner, context.dataset, "validation", n, _SEED + start).arrays["samples"]


def digest(reference: Reference) -> str:
    """Of what a watch rests on: another one cannot go on with it."""
    return hash_bytes(reference.train.tobytes() + reference.held.tobytes())[:16]
