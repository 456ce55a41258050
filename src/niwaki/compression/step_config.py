"""What every step of a plan says about itself."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

__all__ = ["Step"]


class Step(BaseModel):
    """One step of a plan, told apart by its `kind`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str

    @property
    def needs_extractor(self) -> bool:
        """Whether it compares samples as an extractor sees them."""
        return False

    def refusal(self, earlier: Sequence[Step]) -> str:
        """Why this step makes no sense after `earlier`, as the end of a sentence; empty where it does."""
        return ""
