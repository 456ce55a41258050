"""What every step of a plan says about itself."""

from __future__ import annotations

from collections.abc import Sequence

from niwaki.core.base_config import BaseConfig

__all__ = ["Step"]


class Step(BaseConfig):
    """One step of a plan, told apart by its `kind`."""

    kind: str

    @property
    def needs_extractor(self) -> bool:
        """Whether it compares samples as an extractor sees them."""
        return False

    def refusal(self, earlier: Sequence[Step]) -> str:
        """Why this step makes no sense after `earlier`, as the end of a sentence; empty where it does."""
        return ""
