"""How well a language model, or its bundle on an engine, predicts a text: bits per token, and per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.adapters.language.model import LanguageModel
from niwaki.core.contract import CallError
from niwaki_runtime.bundle import Bundle
from niwaki_runtime.samplers import NumpyBackend, Sampler
from niwaki_runtime.samplers.base import Backend, Runner

__all__ = ["bits_per_token", "bundle_bits_per_token", "forced_log_probs"]


@torch.no_grad()
def bits_per_token(model: LanguageModel, x: Tensor, *, batch: int = 64) -> np.ndarray:
    """−log₂ p of each sequence of `x` `(n, length)`, per token: `(n,)` float64, lower is better.

    With one token per byte these are bits per byte; with others, multiply by tokens and divide by the bytes
    of the text. log₂ levels is what a uniform model scores.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        parts = [model.log_prob(part.long().to(device)).cpu() for part in x.split(batch)]
    finally:
        model.train(was_training)
    return -torch.cat(parts).numpy() / (x.shape[1] * math.log(2.0))


def bundle_bits_per_token(bundle: Bundle, x: Any, *, batch: int = 64) -> np.ndarray:
    """The same from the graphs of a bundle, in its engine: what compression cost, token by token.

    Raises CallError where the bundle does not make tokens.
    """
    sampler = bundle.sampler
    tokens = np.asarray(x).astype(np.int64)
    parts = []
    for at in range(0, len(tokens), batch):
        part = tokens[at : at + batch]
        log_p = forced_log_probs(bundle.graphs, sampler, part, NumpyBackend())
        taken = np.take_along_axis(log_p, part[..., None], axis=2)[..., 0]
        parts.append(-taken.sum(axis=1) / (part.shape[1] * math.log(2.0)))
    return np.concatenate(parts)


def forced_log_probs(
    graphs: Mapping[str, Runner], sampler: Sampler, x: np.ndarray, backend: Backend
) -> np.ndarray:
    """log p, in nats, of every token at every place of `x` `(n, length)` given the real ones before it:
    `(n, length, V)` float64, from the graphs of a model or of a bundle, in whatever runs them.
    """
    log_p = sampler.forced(graphs, x, backend)
    if log_p is None:
        raise CallError(f"the sampler '{sampler.kind}' does not make tokens one after another")
    return log_p
