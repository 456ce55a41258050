"""What a model of text lost on its way into a bundle: both read the same test text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from niwaki.adapters.language.scores import forced_log_probs
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.text import FEWEST, TextComparison, compare_text
from niwaki.evaluation.equivalence.text_margins import frequencies, text_margins
from niwaki.evaluation.metrics.ngrams import distinct_n, repetition
from niwaki.workflow.reporter import Reporter
from niwaki_runtime.bundle import Bundle
from niwaki_runtime.samplers import Autoregressive, NumpyBackend

__all__ = ["is_text", "judge_text"]

_MARGINS = 256  # windows that margins are measured on at most
_SAMPLES = 64  # of each model, whose n-grams are counted
_HELD = 1 << 24  # log-probabilities in memory at a time


def is_text(model: GenerativeModel) -> bool:
    """Whether it says tokens one after the other, so that real text can be read with it."""
    return model.spec.modality == "text" and isinstance(model.sampler(), Autoregressive)


def judge_text(
    model: GenerativeModel, bundle: Bundle, dataset: Dataset, *, n: int, seed: int, reporter: Reporter
) -> TextComparison:
    """The verdicts on `bundle`, on its engine, against `model`, from at most n windows of the test split.

    Margins are measured on the validation split, n-grams counted in samples of both.
    Raises CallError where the data have other tokens than the model, or fewer than 20 windows in a split.
    """
    if dataset.spec.levels > model.spec.levels:
        raise CallError(
            f"the data '{dataset.name}' have {dataset.spec.levels} tokens, the model {model.spec.levels}: "
            "read the text with the model's own tokenizer"
        )
    sampler = model.sampler()
    assert isinstance(sampler, Autoregressive)
    if sampler.conditions:
        raise CallError(
            f"text is judged without conditions, and the model asks for '{sampler.conditions[0]}'"
        )
    test, validation = _windows(dataset, "test", n), _windows(dataset, "validation", _MARGINS)
    per_token = _bytes_per_token(dataset, len(test))
    reporter.stage("verdict", f"{len(test):,} windows of text, torch and {bundle.engine}")
    total = len(validation) + 2 * len(test)
    device = next(model.parameters()).device
    graphs, ours, theirs = model.graphs(), TorchBackend(device), NumpyBackend()
    step = max(1, min(64, _HELD // (sampler.length * model.spec.levels)))

    def blocks(of: Any, backend: Any, x: np.ndarray, done: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, len(x), step):
            part = x[at : at + step]
            yield part, forced_log_probs(of, sampler, part, backend)
            reporter.update(done + at + len(part), total)

    def taken(of: Any, backend: Any, done: int) -> np.ndarray:
        rows = [
            np.take_along_axis(log_p, part[..., None], -1)[..., 0]
            for part, log_p in blocks(of, backend, test, done)
        ]
        return np.concatenate(rows)

    share = frequencies(dataset.train.x.cpu().numpy(), model.spec.levels)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            margins = text_margins(
                blocks(graphs, ours, validation, 0), share, n=len(test), bytes_per_token=per_token, seed=seed
            )
            before = taken(graphs, ours, len(validation))
    finally:
        model.train(was_training)
    after = taken(bundle.graphs, theirs, len(validation) + len(test))
    return compare_text(
        before, after, margins,
        bytes_per_token=per_token, seed=seed, data=dataset.fingerprint[:12],
        figures=_figures(model, bundle, min(n, _SAMPLES), seed),
    )  # fmt: skip


def _windows(dataset: Dataset, split: str, most: int) -> np.ndarray:
    x = dataset.split(split).x[:most].cpu().numpy().astype(np.int64)
    if len(x) < FEWEST:
        raise CallError(
            f"the {split} split of '{dataset.name}' has {len(x)} windows; a verdict on text needs {FEWEST}"
        )
    return x


def _bytes_per_token(dataset: Dataset, n: int) -> float:
    """Of the first n test windows; 1 where the data do not say."""
    size = dataset.test.attributes.get("bytes")
    return 1.0 if size is None else float(size[:n].double().mean()) / dataset.test.x.shape[1]


def _figures(model: GenerativeModel, bundle: Bundle, n: int, seed: int) -> Mapping[str, Any]:
    """How varied the samples of both are: distinct n-grams, repetition."""
    made = {"before": model.sample(n, seed=seed).cpu().numpy(), "after": bundle.sample(n, seed=seed)}
    return {
        "samples": n,
        **{f"distinct_{k}": {s: distinct_n(x, n=k).to_json() for s, x in made.items()} for k in (1, 2)},
        "repetition_4": {s: repetition(x, n=4).to_json() for s, x in made.items()},
    }
