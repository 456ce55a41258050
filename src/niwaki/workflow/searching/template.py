"""What all candidates of a search have in common, taken from the recipe's own plan where it has one."""

from __future__ import annotations

import math

from niwaki.compression.config import (
    CompressConfig,
    DistillConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
)
from niwaki.compression.distillation.temperature import has_temperature
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.frozen import frozen_parts
from niwaki.compression.search.choices import Template
from niwaki.compression.search.evaluations import LEARNT, fewer_evaluations, learnt_evaluations, solvers_of
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.training import TrainConfig

__all__ = ["template_of"]

_TOKENS, _RATE = 1 << 13, 5e-4
"""Predictions in a batch of sequences, and the rate at which they are learnt from: Adam's first steps are as
long as its rate, and margins of predictions are narrow."""
_FEW = 8
"""Samples that tell whether layers can be solved again, however badly."""


def _refits(model: GenerativeModel, prune: PruneConfig, seed: int) -> bool:
    """Whether layers that used cut channels can be solved again by least squares."""
    frozen = (*prune.exclude, *frozen_parts(model))
    trial = prune.model_copy(update={"ratio": 0.25, "refit": True, "exclude": frozen})
    try:
        pruned(model, trial, seed=seed, samples=_FEW)
    except NiwakiError:
        return False
    return True


def _usual(model: GenerativeModel, train: TrainConfig | None) -> FinetuneConfig:
    """As by default, but in batches no larger than the model was trained in; of sequences of tokens, each of
    which is a prediction, no more than hold `_TOKENS`, and at a lower rate."""
    usual = FinetuneConfig()
    most = usual.batch if train is None else train.batch
    if not model.spec.is_tokens:
        return usual.model_copy(update={"batch": min(usual.batch, most)})
    most = min(most, max(8, _TOKENS // math.prod(model.spec.shape)))
    return usual.model_copy(update={"batch": min(usual.batch, most), "lr": _RATE})


def template_of(
    model: GenerativeModel, plan: CompressConfig | None, train: TrainConfig | None = None, *, seed: int = 0
) -> Template:
    """How to rank channels, how to fine-tune, how to round: as the plan does, else as by default.

    train: how the model was trained, which says how many samples it learns from at once
    seed:  of trial cuts
    """
    steps = plan.steps if plan is not None else ()
    prune = next((s for s in steps if isinstance(s, PruneConfig) and s.what == "channels"), PruneConfig())
    finetune = next((s for s in steps if s.kind == "finetune" and isinstance(s, FinetuneConfig)), None)
    quantize = next((s for s in steps if isinstance(s, QuantizeConfig)), QuantizeConfig())
    fewer = [s for s in steps if isinstance(s, DistillConfig) and s.evaluations]
    distill = fewer[0] if fewer else DistillConfig(evaluations=LEARNT)
    learnt = learnt_evaluations(model, distill)
    kept = {
        name: getattr(quantize, name)
        for name in ("granularity", "observer", "equalize", "smooth", "correct", "calibration", "ignored")
    }
    cut = PruneConfig(importance=prune.importance, round_to=prune.round_to, min_width=min(8, prune.min_width))
    return Template(
        cut.model_copy(update={"refit": _refits(model, cut, seed)}),
        _usual(model, train) if finetune in (None, FinetuneConfig()) else finetune,
        QuantizeConfig(backend="niwaki", **kept),
        has_temperature(model),
        fewer_evaluations(model),
        quantize.mode == "static",
        solvers_of(model),
        distill if learnt else None,
        learnt,
    )
