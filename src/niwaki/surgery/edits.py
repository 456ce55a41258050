"""What was done to a network after it was built, as data: replaying the edits on a fresh one rebuilds it.

An edit is a frozen dataclass with a `kind`. It changes structure alone (widths, absent blocks, quantizers);
the weights that belong to the changed structure are loaded afterwards.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, Self

from torch import nn

from niwaki.core.contract import NiwakiError, nearest

__all__ = ["Edit", "apply_edits", "edit_from_json"]


class Edit(Protocol):
    """One change of structure. `to_json` holds its `kind` and all that `from_json` needs."""

    kind: ClassVar[str]

    def apply(self, model: nn.Module) -> None:
        """Change `model` in place. Raises NiwakiError where the edit does not fit it."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self: ...


_KINDS = {
    "attribute": "niwaki.surgery.attributes:SetAttribute",
    "cut": "niwaki.surgery.cuts:Cut",
    "drop": "niwaki.surgery.drop:Drop",
    "plain": "niwaki.surgery.remove_parametrization:RemoveParametrization",
    "open_attention": "niwaki.surgery.unfused_attention:UnfusedAttention",
    "quantize": "niwaki.surgery.quantized_edit:Quantized",
    "sparse": "niwaki.surgery.sparse:Sparse",
}
"""kind → the class, imported when it is met."""


def edit_from_json(record: dict[str, Any]) -> Any:
    """The edit that `to_json` described. Raises NiwakiError with the nearest kind."""
    kind = record.get("kind", "cut")  # the first format knew cuts only, and did not say so
    if kind not in _KINDS:
        raise NiwakiError(f"there is no edit '{kind}'; {nearest(kind, _KINDS)}; or update niwaki")
    module, _, name = _KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name).from_json(record)


def apply_edits(model: nn.Module, edits: Iterable[Edit]) -> None:
    """Replay edits, in order, in place. Raises NiwakiError where one does not fit the model."""
    for one in edits:
        one.apply(model)
