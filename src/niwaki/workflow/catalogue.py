"""What `niwaki models` lists."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.features.encoders import encoder_names, registered_encoder
from niwaki.models.registry import build, names, presets, registered

__all__ = ["catalogue"]


def catalogue() -> list[dict[str, Any]]:
    """Every registered model, preset and encoder: name, family, one line, conditions and programs on the data
    that the model is shown with, settings."""
    entries: list[dict[str, Any]] = []
    known = presets()
    for name in names():
        cls, preset = registered(name), known.get(name)
        entries.append(
            {
                "name": name,
                "family": cls.__module__.removeprefix("niwaki.models.").split(".")[0],
                "summary": preset.summary if preset else _summary(cls),
                "base": preset.base if preset else None,
                **_built(name, cls),
                "settings": {**_settings(cls.Config), **(dict(preset.values) if preset else {})},
            }
        )
    for name in encoder_names():
        kind = registered_encoder(name)
        entries.append(
            {
                "name": name,
                "family": "encoder",
                "summary": _summary(kind),
                "base": None,
                "conditions": [],
                "programs": ["features"],
                "settings": _settings(kind.Config),
            }
        )
    return entries


def _built(name: str, cls: type[GenerativeModel]) -> dict[str, Any]:
    """What only a model that is built knows; of one that cannot be built for its `example_spec`, why."""
    try:
        model = build(name, {}, cls.example_spec)
    except CallError as error:
        unknown: dict[str, Any] = {"conditions": [], "programs": [], "sampler": None, "graphs": {}}
        return {**unknown, "note": f"no example_spec that it can be built for: {error}"}
    return {
        "conditions": list(model.conditions),
        "programs": list(model.programs()),
        "sampler": model.sampler().kind,
        "graphs": {k: g.role for k, g in model.graphs().items()},
    }


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").strip()


def _settings(config: type[BaseModel]) -> dict[str, Any]:
    defaults = {k: f.get_default(call_default_factory=True) for k, f in config.model_fields.items()}
    return {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in defaults.items()}
