"""YAML as recipes use it: `safe_load`, with two traps taken out.

A key that stands twice is refused (PyYAML keeps the second in silence), and `1e-4` is a number, as in YAML
1.2 (PyYAML follows 1.1 and reads text).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from niwaki.core.contract import CallError, first_line

__all__ = ["parse_yaml"]


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str | int | float | bool | type(None)):
                raise CallError(f"line {key_node.start_mark.line + 1}: a key must be a plain word")
            if key in seen:
                raise CallError(
                    f"line {key_node.start_mark.line + 1}: the key '{key}' stands twice; keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str, what: str) -> Any:
    """The value that `text` describes. Raises CallError naming `what` and the line for broken YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except CallError as error:
        raise CallError(f"{what}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise CallError(f"{what}{line}: this is not YAML ({problem})") from None
    except (ValueError, RecursionError) as error:  # 2001-13-45 looks like a date and is none
        raise CallError(f"{what}: this is not YAML ({error})") from None
