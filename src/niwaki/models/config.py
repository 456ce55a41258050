"""What every family's config has: how it samples unless told otherwise, and what it is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from niwaki.core.base_config import BaseConfig

__all__ = ["Conditioning", "ModelConfig"]

_SAMPLING = ("solver", "steps", "guidance", "spacing", "temperature", "top_k", "top_p")
"""Settings of samplers that the first edition kept beside the model's own."""


class Conditioning(BaseConfig):
    """What a model may be asked for.

    columns: names of the data's columns that it is conditioned on; None is every one that the family can use
             and the data have, () is none
    drop:    share of samples whose conditions are replaced by "nothing asked" in training, one coin per
             sample; above 0 the model can be guided (Ho & Salimans 2022)
    """

    columns: tuple[str, ...] | None = None
    drop: float = Field(default=0.0, ge=0, lt=1)

    def wants(self, column: str) -> bool:
        """Whether the model is conditioned on that column, if the data have it."""
        return self.columns is None or column in self.columns


class ModelConfig(BaseConfig):
    """Base of every model's config: frozen, round-trips through JSON, refuses unknown keys.

    sampling:     fields of the sampler that differ from the family's own (`{steps: 10, temperature: 0.8}`)
    conditioning: what it may be asked for
    Both are left out of records where they say nothing, so that older models keep their records.
    """

    sampling: dict[str, Any] = Field({}, exclude_if=lambda value: not value)
    conditioning: Conditioning = Conditioning()

    @model_serializer(mode="wrap")
    def _without_the_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        record: dict[str, Any] = dump(self)
        if self.conditioning == type(self).model_fields["conditioning"].default:
            record.pop("conditioning", None)
        return record

    @model_validator(mode="before")
    @classmethod
    def _first_edition(cls, values: Any) -> Any:
        """`steps: 10` is `sampling: {steps: 10}`, `conditional: false` is `conditioning: {columns: []}`."""
        if not isinstance(values, Mapping):
            return values
        out = dict(values)
        moved = {k: out.pop(k) for k in _SAMPLING if k in out and k not in cls.model_fields}
        if moved:
            out["sampling"] = {**dict(out.get("sampling") or {}), **moved}
        given = out.get("conditioning", cls.model_fields["conditioning"].default)
        asked = given.model_dump() if isinstance(given, Conditioning) else dict(given or {})
        asked = {**cls.model_fields["conditioning"].default.model_dump(), **asked}
        if "conditional" in out and "conditional" not in cls.model_fields:
            said = out.pop("conditional")
            asked |= {} if said is None else {"columns": ("class",) if said else ()}
        if "label_drop" in out and "label_drop" not in cls.model_fields:
            asked["drop"] = out.pop("label_drop")
        return {**out, "conditioning": asked} if asked else out
