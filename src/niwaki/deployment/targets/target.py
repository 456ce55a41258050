"""What a target is, and which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from niwaki.core.contract import CallError, nearest
from niwaki.core.registry import Registry

__all__ = ["TARGETS", "Target", "register_target", "with_defaults"]


class Target(ABC):
    """One form that a bundle is written in: `niwaki export --target NAME`.

    suffix:  what its output is called after the bundle's name, where nobody says
    options: what `write` takes by name, with its default, whose type it has
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """Write `bundle` as `out`, whole or not at all, and say what there is now: plain JSON and paths.

        options: all that the class names (`with_defaults`)
        Raises NiwakiError where the bundle holds what this form cannot carry, or where what was written does
        not compute what the bundle does.
        """

    def lines(self, written: Mapping[str, Any]) -> list[str]:
        """What a terminal shows of it, a line each."""
        return []

    def default_out(self, bundle: Path) -> Path:
        """Beside the bundle, by its name."""
        return bundle.with_name(f"{bundle.name.removesuffix('.niwaki')}{self.suffix}")


TARGETS: Registry[Target] = Registry("target", ["niwaki.deployment.targets"])
register_target = TARGETS.register


def with_defaults(target: Target, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a target, those that nobody sets at their defaults.

    Raises CallError for one that it does not have, and for a value of another type.
    """
    known = target.options
    for name, value in options.items():
        if name not in known:
            said = nearest(name, known) if known else "it has none"
            raise CallError(f"the target '{target.name}' has no option '{name}'; {said}")
        kind = type(known[name])
        if type(value) is not kind:
            raise CallError(
                f"the option '{name}' of the target '{target.name}' is of type {kind.__name__}, not {value!r}"
            )
    return {**known, **options}
