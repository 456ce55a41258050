"""What `niwaki models` lists."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from niwaki.core.contract import DataSpec
from niwaki.features.encoders import encoder_names, registered_encoder
from niwaki.models.registry import build, names, registered

__all__ = ["catalogue"]

_LABELLED = DataSpec.of("image", (1, 16, 16), classes=10)


def catalogue() -> list[dict[str, Any]]:
    """Every registered model and encoder: name, family, one line, conditions on labelled images,
    capabilities, settings."""
    entries: list[dict[str, Any]] = []
    for name in names():
        cls = registered(name)
        model = build(name, {}, _LABELLED)
        entries.append(
            {
                "name": name,
                "family": cls.__module__.removeprefix("niwaki.models.").split(".")[0],
                "summary": _summary(cls),
                "conditions": list(model.conditions),
                "programs": list(model.programs()),
                "sampler": model.sampler().kind,
                "graphs": {k: g.role for k, g in model.graphs().items()},
                "settings": _settings(cls.Config),
            }
        )
    for name in encoder_names():
        kind = registered_encoder(name)
        entries.append(
            {
                "name": name,
                "family": "encoder",
                "summary": _summary(kind),
                "conditions": [],
                "programs": ["features"],
                "settings": _settings(kind.Config),
            }
        )
    return entries


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").strip()


def _settings(config: type[BaseModel]) -> dict[str, Any]:
    defaults = {k: f.get_default(call_default_factory=True) for k, f in config.model_fields.items()}
    return {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in defaults.items()}
