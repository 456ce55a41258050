"""What a stream is held against, in the features of the verdict."""

from __future__ import annotations

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.core.store import hash_bytes
from niwaki.evaluation.drift.channel import Reference, Stream
from niwaki.evaluation.equivalence.margins import first_features
from niwaki.evaluation.statistics.samples import split_features
from niwaki.workflow.context import EvaluationContext

__all__ = ["digest", "reference_of", "released"]

_TRAIN, _RELEASED = 4096, 2000
_SEED = 11 << 40
"""Of the outputs at release: apart from all that is evaluated."""


def reference_of(context: EvaluationContext, stream: Stream, runner: Runner | None) -> Reference:
    """Inputs are held against real samples that no model has learned from (validation and test), outputs
    against what the model makes when it is released.

    runner: the model; for outputs
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
    return Reference(train, extractor(released(context, runner, _RELEASED)))


def released(context: EvaluationContext, runner: Runner, n: int, start: int = 0) -> np.ndarray:
    """Samples `(n, *shape)` of a model, asked for as the validation split asks."""
    judge = context.judge("samples")
    if not judge.applies(runner, context.dataset):
        raise CallError("the samples of this model are of no column of the data; its outputs are not watched")
    return judge.evidence(runner, context.dataset, "validation", n, _SEED + start).arrays["samples"]


def digest(reference: Reference) -> str:
    """Of what a watch rests on: another one cannot go on with it."""
    return hash_bytes(reference.train.tobytes() + reference.held.tobytes())[:16]
