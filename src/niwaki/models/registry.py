"""Which models there are.

A model is one file: a class, a registered name, a config; being registered it appears in `niwaki models`, in
the CLI and in the property tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from niwaki.core.contract import CallError, DataSpec, GenerativeModel, nearest
from niwaki.core.registry import Registry

__all__ = ["ModelConfig", "build", "built_in", "checked", "config_of", "names", "register", "registered"]

Model = TypeVar("Model", bound=type[GenerativeModel])

_MODELS: Registry[GenerativeModel] = Registry("model", ("niwaki.models",))


class ModelConfig(BaseModel):
    """Base of every model's config: frozen, round-trips through JSON, refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def register(name: str) -> Callable[[Model], Model]:
    """Class decorator. The class has `Config` (a ModelConfig), takes `(config, spec)`, and gains `name`."""
    return _MODELS.register(name)


def names() -> list[str]:
    """All registered models, the built-in families loaded."""
    return _MODELS.names()


def built_in() -> list[str]:
    """The models that niwaki itself brings: what the property tests run over."""
    return _MODELS.built_in_names()


def registered(name: str) -> type[GenerativeModel]:
    """Raises CallError with the nearest name where there is no such model."""
    return _MODELS[name]


def config_of(name: str, values: Mapping[str, Any]) -> ModelConfig:
    """The checked config of a model. Raises CallError in one sentence for a wrong key or value."""
    return checked(registered(name).Config, name, values)


def checked(config: type[ModelConfig], name: str, values: Mapping[str, Any]) -> ModelConfig:
    """`values` as the config of `name`. Raises CallError in one sentence for a wrong key or value."""
    try:
        return config.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            fields: Mapping[str, Any] = config.model_fields
            for part in first["loc"][:-1]:  # of a section inside the config
                fields = getattr(fields[str(part)].annotation, "model_fields", {})
            hint = nearest(str(first["loc"][-1]), fields)
            raise CallError(f"the model '{name}' has no setting '{key}'; {hint}") from None
        raise CallError(f"model.{key} of '{name}': {first['msg']}, not {first['input']!r}") from None


def build(name: str, config: Mapping[str, Any] | ModelConfig, spec: DataSpec) -> GenerativeModel:
    """A fresh model for samples of `spec`, weights drawn from torch's global generator."""
    checked = config if isinstance(config, ModelConfig) else config_of(name, config)
    return registered(name)(checked, spec)
