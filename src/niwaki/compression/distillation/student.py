"""A smaller student of the same family, built fresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.compression.arithmetic import parameters
from niwaki.core.contract import CallError, GenerativeModel, nearest
from niwaki.models.io import build_record, model_record
from niwaki_runtime.samplers import Sampler

__all__ = ["smaller", "with_sampling"]


def smaller(teacher: GenerativeModel, changes: Mapping[str, Any]) -> GenerativeModel:
    """A model of the teacher's name and spec, its config changed, with fresh weights and no edits.

    Raises CallError for an unknown or impossible setting, or where the student would not be smaller.
    """
    record = model_record(teacher)
    config = dict(record["config"])
    for key in changes:
        if key not in config:
            raise CallError(f"'{teacher.name}' has no setting '{key}'; {nearest(key, config)}")
    student = build_record({**record, "config": {**config, **changes}, "surgery": []})
    own, before = parameters(student), parameters(teacher)
    if own >= before:
        raise CallError(
            f"the student would have {own:,} parameters and its teacher has {before:,}; make it smaller"
        )
    return student


def with_sampling(model: GenerativeModel, **changes: Any) -> None:
    """Make the sampler of `model` another one, in place, through its config: so it is saved with the model.

    Raises CallError where the model's config does not say how it samples.
    """
    fields, options = type(model.config).model_fields, model.sampler().options()
    shared = {k: v for k, v in changes.items() if k not in fields and k in options and "sampling" in fields}
    if shared:
        changes = {k: v for k, v in changes.items() if k not in shared}
        changes["sampling"] = {**model.config.sampling, **shared}
    missing = [key for key, value in changes.items() if key not in fields and _differs(model, key, value)]
    if missing:
        raise CallError(
            f"the config of '{model.name}' does not say '{missing[0]}', so it cannot be saved with another"
        )
    known = {key: value for key, value in changes.items() if key in fields}
    model.config = type(model.config).model_validate({**model.config.model_dump(), **known})
    known.pop("sampling", None)
    for key, value in {**known, **shared}.items():
        if _differs(model, key, value):
            raise CallError(f"'{model.name}' does not sample as its config says: '{key}' stayed as it was")


def _differs(model: GenerativeModel, key: str, value: Any) -> bool:
    return all(_said(leg, key) != value for leg in model.sampler().parts())


def _said(leg: Sampler, key: str) -> Any:
    """A field of a sampler, or of the process that it follows."""
    value = getattr(leg, key, None)
    return getattr(getattr(leg, "process", None), key, None) if value is None else value
