"""`package.module:function`: other people's code that makes a module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from niwaki.core.contract import CallError, NiwakiError, nearest

__all__ = ["call_factory", "make_module"]


def make_module(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The module that a factory makes. Importing it runs its author's code."""
    path, colon, attribute = factory.partition(":")
    if not (path and colon and attribute):
        raise CallError(
            "this adapted model names no factory: pass factory='package.module:function' to adapt, or build "
            "the module yourself and use load_into(adapt(module, …), directory)"
        )
    module = call_factory(factory, arguments)
    if not isinstance(module, nn.Module):
        raise NiwakiError(f"the factory '{factory}' returned {type(module).__name__}, not an nn.Module")
    return module


def call_factory(factory: str, arguments: Mapping[str, Any]) -> Any:
    """What `package.module:function` returns. The module may also lie in the current directory.

    Raises NiwakiError where there is no such module or function, or it does not take the arguments.
    """
    path, _, attribute = factory.partition(":")
    top = path.partition(".")[0]
    here = str(Path.cwd())
    if here not in sys.path and (Path(here, top).is_dir() or Path(here, f"{top}.py").is_file()):
        sys.path.append(here)  # behind what is installed
    try:
        found = importlib.import_module(path)
    except ImportError as error:
        raise NiwakiError(f"the factory '{factory}' cannot be imported: {error}") from error
    make: Callable[..., Any] | None = getattr(found, attribute, None)
    if make is None:
        raise NiwakiError(f"'{path}' has no '{attribute}'; {nearest(attribute, vars(found))}")
    if not callable(make):
        raise NiwakiError(f"'{factory}' is no function but a {type(make).__name__}")
    try:
        return make(**arguments)
    except TypeError as error:
        raise NiwakiError(
            f"the factory '{factory}' cannot be called with {dict(arguments)}: {error}"
        ) from error
