"""Base of every config: frozen, refuses unknown keys, and takes true and false for nothing but themselves."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from niwaki.core.sentences import sentence
from niwaki_runtime.errors import CallError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

__all__ = ["BaseConfig"]


class _Speaking(ModelMetaclass):
    """A call of the class answers wrong settings in one sentence. Not `__init__`: within another config and
    in unions, pydantic itself must hear what is wrong, and where."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            raise CallError(sentence(error, cls, cls.__name__)) from None  # type: ignore[arg-type]


class BaseConfig(BaseModel, metaclass=_Speaking):
    """Numbers are finite, and true is no number: pydantic alone takes `steps: true` for 1.

    Wrong settings raise CallError in one sentence from a call, `TrainConfig(stepz=1)`, and pydantic's
    ValidationError from `model_validate`, which knows no more than the part that it was given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            truth = next((leaf for leaf in _leaves(value) if isinstance(leaf, bool)), None)
            kind = None if truth is None or name not in cls.model_fields else _number(cls.model_fields[name])
            if kind is not None:
                told = {"field": name, "kind": kind, "given": str(truth).lower()}
                raise PydanticCustomError("no_number", "'{field}' must be {kind}, not {given}", told)
        return values


def _number(field: FieldInfo) -> str | None:
    """What number a field takes; None where it takes none, or may be true or false, or has settings of its
    own, which look after themselves."""
    kinds = set(_kinds(field.annotation))
    sections = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
    if sections or kinds & {bool, Any} or not kinds & {int, float}:
        return None
    return "a number" if float in kinds else "a whole number"


def _leaves(value: Any) -> Iterator[Any]:
    """What lists, tuples and mappings hold in the end."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _kinds(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of: `tuple[float, ...] | None` is float and None."""
    parts = typing.get_args(annotation)
    if not parts or typing.get_origin(annotation) is typing.Literal:
        yield from map(type, parts)
        if not parts:
            yield annotation
    for part in parts if typing.get_origin(annotation) is not typing.Literal else ():
        yield from _kinds(part)
