"""How unusual each sample is for a model: by its likelihood, or by how badly it is reconstructed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.evaluation.judges.likelihood import EXACT, dequantised
from niwaki.evaluation.metrics.bits_per_dim import bits_per_dim
from niwaki.uses.base import Call
from niwaki.uses.latents import decode, encode
from niwaki_runtime.programs import LOG_PROB, Runner
from niwaki_runtime.specs import ConditionSpec, ValueSpec, resolve

__all__ = ["scorer", "ways_to_score"]

_CHOICES = 1000


def ways_to_score(runner: Runner) -> list[str]:
    """What the model has of `likelihood` and `reconstruction`."""
    has = {"likelihood": LOG_PROB in runner.programs(), "reconstruction": _has_latents(runner)}
    return [name for name, there in has.items() if there]


def scorer(call: Call, by: str) -> tuple[Callable[[np.ndarray], np.ndarray], str, ValueSpec]:
    """A function of samples to scores `(n,)`, higher for odder ones; what they are; the samples' spec."""
    runner = call.model
    known = ways_to_score(runner)
    chosen = by if by != "auto" else next(iter(known), "")
    if chosen not in known:
        raise CallError(
            "samples are scored by the program log_prob or by encode and decode, and this model has neither"
            if by == "auto"
            else f"this model cannot score by {by}; a bundle may have been exported without the programs"
        )
    if chosen == "likelihood":
        spec = runner.program(LOG_PROB).inputs["x"].value
        return lambda x: _code_length(call, x, spec), "bits per dimension", spec
    spec = runner.program("encode").inputs["x"].value

    def error(x: np.ndarray) -> np.ndarray:
        return -_best_class(call, "encode", lambda a: -_error(x, decode(call, encode(call, x, a), a)), len(x))

    return error, "mean squared error", spec


def _code_length(call: Call, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Bits per dimension of each sample; for a density, of the level that it stands for."""
    exact = spec.is_tokens or call.model.program(LOG_PROB).output.names == (EXACT,)
    levels = 0 if exact or spec.is_tokens else spec.levels
    if levels:
        x = dequantised(x, (spec.high - spec.low) / (levels - 1), call.seed)
    nats = _best_class(call, LOG_PROB, lambda a: _log_prob(call, x, a), len(x))
    found = bits_per_dim(
        np.append(nats, nats[-1:]),  # the metric wants two samples or more
        dims=spec.size,
        levels=levels or None,
        span=spec.high - spec.low,
    ).per_sample
    return np.asarray(found)[:-1]


def _has_latents(runner: Runner) -> bool:
    return {"encode", "decode"} <= set(runner.programs())


def _log_prob(call: Call, x: np.ndarray, asked: dict[str, np.ndarray]) -> np.ndarray:
    made = call.model.run(LOG_PROB, len(x), seed=call.seed, inputs={"x": x, **asked}, progress=call.progress)
    return np.asarray(call.model.backend().numpy(made), np.float64)


def _error(x: np.ndarray, back: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(x.astype(np.float64) - back).reshape(len(x), -1).mean(1))


def _best_class(call: Call, program: str, value: Any, n: int) -> np.ndarray:
    """The largest value `(n,)` over the classes that are not given: an oddity belongs to none of them."""
    specs: dict[str, ConditionSpec] = {
        k: s for k, s in call.model.program(program).inputs.items() if k not in ("x", "eps")
    }
    if not specs:
        return np.asarray(value({}))
    if call.asked is not None:
        return np.asarray(value(resolve(specs, call.asked, 0, n)))
    if len(specs) > 1 or not all(s.is_label and s.size <= _CHOICES for s in specs.values()):
        raise CallError(
            "say what the samples are, with --class: this model is conditioned on more than a class"
        )
    ((name, spec),) = specs.items()
    each = [value({name: np.full(n, k, np.int64)}) for k in range(spec.size)]
    return np.asarray(np.max(each, axis=0))
