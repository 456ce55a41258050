"""Which models there are.

A model is one file: a class, a registered name, a config; being registered it appears in `niwaki models`, in
the CLI and in the property tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.core.registry import Registry, unknown
from niwaki.core.sentences import sentence
from niwaki.models.config import Conditioning, ModelConfig

__all__ = [
    "Conditioning",
    "ModelConfig",
    "Preset",
    "build",
    "built_in",
    "checked",
    "config_of",
    "names",
    "presets",
    "register",
    "register_preset",
    "registered",
]

Model = TypeVar("Model", bound=type[GenerativeModel])

_MODELS: Registry[GenerativeModel] = Registry("model", ("niwaki.models",))


@dataclass(frozen=True)
class Preset:
    """A variant that differs by settings: a name, the class it is of, values that are its defaults.

    summary: what it is, in one line, with its source
    """

    name: str
    base: str
    values: Mapping[str, Any]
    summary: str


_PRESETS: dict[str, Preset] = {}


def register_preset(name: str, base: str, summary: str, **values: Any) -> None:
    """Enter a variant of the model `base`; `values` are fields of its config.

    >>> register_preset("small-gan", "dcgan", "DCGAN of width 16", width=16)
    """
    _PRESETS[name] = Preset(name, base, values, summary)


def presets() -> dict[str, Preset]:
    """All presets by name, the built-in ones loaded."""
    _MODELS.names()
    return dict(_PRESETS)


def register(name: str) -> Callable[[Model], Model]:
    """Class decorator. The class has `Config` (a ModelConfig), takes `(config, spec)`, and gains `name`."""
    return _MODELS.register(name)


def names() -> list[str]:
    """All registered models and presets, the built-in families loaded."""
    return sorted({*_MODELS.names(), *_PRESETS})


def built_in() -> list[str]:
    """The models that niwaki itself brings: what the property tests run over."""
    return _MODELS.built_in_names()


def registered(name: str) -> type[GenerativeModel]:
    """The class of a model or of a preset. Raises CallError with the nearest name where there is none."""
    known = names() if name not in _PRESETS else _PRESETS
    if name in _PRESETS:
        return _MODELS[_PRESETS[name].base]
    if name not in known:
        raise unknown("model", name, known)
    return _MODELS[name]


def config_of(name: str, values: Mapping[str, Any]) -> ModelConfig:
    """The checked config of a model. Raises CallError in one sentence for a wrong key or value."""
    kind = registered(name)
    given = {**_PRESETS[name].values, **values} if name in _PRESETS else values
    return checked(kind.Config, name, given)


def checked(config: type[ModelConfig], name: str, values: Mapping[str, Any]) -> ModelConfig:
    """`values` as the config of `name`. Raises CallError in one sentence for a wrong key or value."""
    try:
        return config.model_validate(dict(values))
    except ValidationError as error:
        raise CallError(sentence(error, config, f"the model '{name}'", "model")) from None


def build(name: str, config: Mapping[str, Any] | ModelConfig, spec: DataSpec) -> GenerativeModel:
    """A fresh model of the model or preset `name` for data of `spec`, weights drawn from torch's global
    generator."""
    checked = config if isinstance(config, ModelConfig) else config_of(name, config)
    model = registered(name)(checked, spec)
    model.name = name
    return model
