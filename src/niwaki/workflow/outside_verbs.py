"""Compressing and evaluating models that are named on the command line and belong to no run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError
from niwaki.recipe import apply_overrides, parse_override
from niwaki.training.hardware import choose_device
from niwaki.workflow.evaluate import judge_source
from niwaki.workflow.outside import load_outside, split
from niwaki.workflow.own import compress_model
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.samples_of import Source, sample_model
from niwaki.workflow.setting import as_overrides, setting_of

__all__ = ["compress_outside", "evaluate_outside"]


def compress_outside(
    what: str | Path,
    overrides: Sequence[str] = (),
    *,
    weights: str | Path | None,
    data: str | None,
    out: str | Path | None = None,
    n: int = 1000,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """`compress_model` for a model that is named: `model.*` overrides tell how to adapt it, `compress.*`
    change the plan.

    data: a source or a recipe
    out:  directory; default `compressed`
    Raises CallError as `load_outside` does, and where no data are named.
    """
    told, rest = split(overrides)
    plan, reporter = _plan(rest), reporter or Quiet()
    dataset = setting_of(_named(what, data), (), reporter).dataset
    model = load_outside(what, weights=weights, told=told, spec=dataset.spec)
    found = compress_model(model, data=dataset, out=out or "compressed", plan=plan, n=n, reporter=reporter)
    return dict(found)


def evaluate_outside(
    what: str | Path,
    overrides: Sequence[str] = (),
    *,
    weights: str | Path | None,
    data: str | None,
    features: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """What `evaluate` says of a model that is named: `model.*` overrides tell how to adapt it, the others are
    about `data` and `evaluate`.

    data: a source, a recipe or a run
    Raises CallError as `load_outside` does, where no data are named, and for samples of another shape.
    """
    told, rest = split(overrides)
    setting = setting_of(_named(what, data), [*rest, *as_overrides(features, metrics)], reporter or Quiet())
    model = load_outside(what, weights=weights, told=told, spec=setting.dataset.spec)
    if tuple(model.spec.shape) != tuple(setting.dataset.spec.shape):
        raise CallError(
            f"{what} makes samples of shape {tuple(model.spec.shape)}, the data of '{setting.data.source}' "
            f"have {tuple(setting.dataset.spec.shape)}"
        )
    n, seed = setting.n, setting.evaluate.seed
    asked, labels = setting.ask(model.conditions, n)
    setting.reporter.stage("sample", f"{n:,} samples of {what}")
    model.to(choose_device("auto"))
    x = sample_model(model, n, seed, asked, setting.reporter)
    return judge_source(Source("model", Path(what), x, labels, seed), setting)


def _named(what: str | Path, data: str | None) -> str:
    if data is None:
        raise CallError(f"{what} belongs to no run; name the data that it answers to with --data: digits …")
    return data


def _plan(overrides: Sequence[str]) -> CompressConfig:
    """The default plan with overrides `compress.…`. Raises CallError for any other section."""
    for text in overrides:
        if parse_override(text)[0][0] != "compress":
            raise CallError(f"'{text}': a model of no run has the sections 'model' and 'compress' only")
    values = apply_overrides({"compress": CompressConfig().model_dump(mode="json")}, overrides)
    try:
        return CompressConfig.model_validate(values["compress"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("compress", *first["loc"])))
        raise CallError(f"{key}: {first['msg']}") from None
