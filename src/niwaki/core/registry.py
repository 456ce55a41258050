"""What is known by a name: classes that a decorator enters, and modules that enter theirs when imported."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from niwaki.core.errors import CallError, first_line, nearest

__all__ = ["BROKEN", "Registry", "import_modules", "unknown"]

Base = TypeVar("Base")
Kind = TypeVar("Kind")


BROKEN: dict[str, str] = {}
"""Files that could not be imported, and why: one that is being written stops nothing but itself."""


def import_modules(package: str) -> None:
    """Import a module, or every module of a package and of the packages in it: each enters what it brings.
    What cannot be imported is left out, and `BROKEN` tells."""
    home = importlib.import_module(package)
    for found in pkgutil.walk_packages(
        getattr(home, "__path__", ()), f"{package}.", onerror=lambda name: None
    ):
        if found.name in sys.modules:
            continue
        try:
            importlib.import_module(found.name)
            BROKEN.pop(_file(found), None)
        except Exception as error:
            BROKEN[_file(found)] = f"{type(error).__name__}: {first_line(error)}"


def _file(found: pkgutil.ModuleInfo) -> str:
    return str(Path(getattr(found.module_finder, "path", "")) / f"{found.name.rpartition('.')[2]}.py")


def unknown(what: str, name: str, known: Collection[str]) -> CallError:
    """The error that there is nothing of this name, with the nearest, and with the files that may hold it."""
    broken = "".join(f"; {file} cannot be imported ({why})" for file, why in BROKEN.items())
    return CallError(f"there is no {what} '{name}'; {nearest(name, known)}{broken}")


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
                raise unknown(self.what, name, known)
        return self._known[name]
