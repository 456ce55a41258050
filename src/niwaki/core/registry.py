"""What is known by a name: classes that a decorator enters, and modules that enter theirs when imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from niwaki.core.contract import CallError, nearest

__all__ = ["Registry"]

Base = TypeVar("Base")
Kind = TypeVar("Kind")


class Registry(Generic[Base]):
    """Subclasses of one base by name.

    what:     what they are called in an error: `model`, `encoder`
    built_in: modules that enter theirs; imported when the names are first asked for
    """

    def __init__(self, what: str, built_in: Sequence[str]) -> None:
        self.what = what
        self.built_in = tuple(built_in)
        self._known: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """Class decorator. The class gains `name`; entered again, the newer one counts."""

        def enter(cls: Any) -> Any:
            cls.name = name
            self._known[name] = cls
            return cls

        return enter

    def names(self) -> list[str]:
        """All there are, the built-in modules loaded."""
        for module in self.built_in:
            importlib.import_module(module)
        return sorted(self._known)

    def built_in_names(self) -> list[str]:
        """Those that niwaki itself brings."""
        return [name for name in self.names() if self._known[name].__module__.startswith("niwaki.")]

    def __getitem__(self, name: str) -> type[Base]:
        """Raises CallError with the nearest name where there is none of this name."""
        if name not in self._known:
            known = self.names()
            if name not in self._known:
                raise CallError(f"there is no {self.what} '{name}'; {nearest(name, known)}")
        return self._known[name]
