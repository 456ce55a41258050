"""What is known by a name: classes that a decorator enters, and modules that enter theirs when imported."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from niwaki.core.contract import CallError, nearest

__all__ = ["Registry", "import_modules"]

Base = TypeVar("Base")
Kind = TypeVar("Kind")


def import_modules(package: str) -> None:
    """Import a module, or every module of a package and of the packages in it: each enters what it brings."""
    home = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(home, "__path__", ()), f"{package}."):
        importlib.import_module(found.name)


class Registry(Generic[Base]):
    """Subclasses of one base by name.

    what:     what they are called in an error: `model`, `encoder`
    packages: whose modules enter theirs; imported when the names are first asked for
    """

    def __init__(self, what: str, packages: Sequence[str]) -> None:
        self.what = what
        self.packages = tuple(packages)
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
        for package in self.packages:
            import_modules(package)
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
