"""The settings of a use as people read them: name, default and meaning, from the class that checks them."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

__all__ = ["listed", "meanings", "settings_of"]

_ENTRY = re.compile(r"^(\w+(?:, \w+)*):\s+(.*)$")


def settings_of(options: type[BaseModel]) -> list[dict[str, Any]]:
    """`name`, `default` and `meaning` of each setting, in their order."""
    said = meanings(options)
    return [
        {
            "name": name,
            "default": field.get_default(call_default_factory=True),
            "meaning": said.get(name, ""),
        }
        for name, field in options.model_fields.items()
    ]


def listed(value: Any) -> Any:
    """What a user wrote for a list: one number alone, or a list without the brackets that some shells read;
    all else as it is.

    >>> listed("0.2,0.5"), listed(0.2), listed([1, 2])
    (['0.2', '0.5'], [0.2], [1, 2])
    """
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",")]
    return [value] if isinstance(value, int | float) else value


def meanings(cls: type) -> dict[str, str]:
    """What a docstring says of names, as `name: meaning`, further lines indented."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in (inspect.getdoc(cls) or "").splitlines():
        entry = _ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2].strip())
        elif names and line.startswith(" "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found
