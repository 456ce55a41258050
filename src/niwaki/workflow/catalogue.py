"""What `niwaki models` lists."""

from __future__ import annotations

import inspect
from typing import Any

from niwaki.contract import HasLatents, HasLikelihood, SampleSpec
from niwaki.models.registry import build, names, registered

__all__ = ["catalogue"]

_CAPABILITIES = {"likelihood": HasLikelihood, "latents": HasLatents}
_LABELLED = SampleSpec("image", (1, 16, 16), classes=10)


def catalogue() -> list[dict[str, Any]]:
    """Every registered model: name, family, one line, conditions on labelled images, capabilities,
    settings."""
    entries = []
    for name in names():
        cls = registered(name)
        model = build(name, {}, _LABELLED)
        entries.append(
            {
                "name": name,
                "family": cls.__module__.removeprefix("niwaki.models.").split(".")[0],
                "summary": (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").strip(),
                "conditions": list(model.conditions),
                "capabilities": ["sample", *(k for k, p in _CAPABILITIES.items() if isinstance(model, p))],
                "sampler": model.sampler().kind,
                "graphs": {k: g.role for k, g in model.graphs().items()},
                "settings": {
                    k: f.get_default(call_default_factory=True) for k, f in cls.Config.model_fields.items()
                },
            }
        )
    return entries
