"""YAML as recipes use it: plain values by the core schema of YAML 1.2 (section 10.3.2).

PyYAML follows 1.1. Here `yes`, `no`, `on` and `off` are words, `1e-4` is a number, `1:30` is text and not
ninety, and so are dates. A key that stands twice is refused (PyYAML keeps the second in silence), and so is
`010`, which is eight to YAML 1.1 and ten to 1.2. Anchors, aliases and `<<` work.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from niwaki.core.contract import CallError, first_line

__all__ = ["parse_yaml"]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # none of those of YAML 1.1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str | int | float | bool | type(None)):
                raise CallError(f"line {key_node.start_mark.line + 1}: a key must be a plain word")
            if key in seen:
                raise CallError(
                    f"line {key_node.start_mark.line + 1}: the key '{key}' stands twice; keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_TAG = "tag:yaml.org,2002:"
_MERGE, _OCTAL = _TAG + "merge", "!octal"
for _tag, _pattern, _first in (
    (_TAG + "null", r"~|null|Null|NULL|", [*"~nN", ""]),
    (_TAG + "bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_OCTAL, r"[-+]?0[0-9]+", list("-+0")),
    (_TAG + "int", r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        _TAG + "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (_MERGE, r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 0)


def _octal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    text = str(loader.construct_scalar(node))
    raise CallError(
        f"line {node.start_mark.line + 1}: '{text}' is {int(text, 10)} to some and octal to others; write "
        f"{int(text, 10)}, or '{text}' in quotes where it is a name"
    )


_Loader.add_constructor(_TAG + "int", _whole)
_Loader.add_constructor(_OCTAL, _octal)


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
