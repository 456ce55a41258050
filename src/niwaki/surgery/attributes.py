"""Numbers that modules noted when they were built, changed after pruning: as data, like a cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from niwaki.core.contract import NiwakiError

__all__ = ["SetAttribute"]


@dataclass(frozen=True)
class SetAttribute:
    """Give a whole number that a module keeps another value: heads that are left, a width that is checked.

    module: dotted name, as in `named_modules()`
    name:   an attribute of it that is a whole number, or several of them
    value:  the number
    index:  which of several; None where it is one
    """

    module: str
    name: str
    value: int
    index: int | None = None

    kind: ClassVar[str] = "attribute"

    def apply(self, model: nn.Module) -> None:
        """Raises NiwakiError where the module or such a number does not exist."""
        try:
            holder = model.get_submodule(self.module)
        except AttributeError:
            raise NiwakiError(f"the model has no module '{self.module}' with a number to set") from None
        now = vars(holder).get(self.name)
        if self.index is None and type(now) is int:
            setattr(holder, self.name, self.value)
        elif self.index is not None and isinstance(now, tuple | list) and self.index < len(now):
            made = [*now[: self.index], self.value, *now[self.index + 1 :]]
            setattr(holder, self.name, type(now)(made))
        else:
            raise NiwakiError(f"'{self.module}' keeps no whole number '{self.name}'")

    def to_json(self) -> dict[str, Any]:
        place = {} if self.index is None else {"index": self.index}
        return {"kind": self.kind, "module": self.module, "name": self.name, "value": self.value, **place}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SetAttribute:
        return cls(record["module"], record["name"], int(record["value"]), record.get("index"))
