"""The weak denoiser by which a diffusion model guides itself (Karras, Aittala, Kynkäänniemi, Lehtinen, Aila &
Laine 2024, "Guiding a diffusion model with a bad version of itself")."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from niwaki.core.base_config import BaseConfig

__all__ = ["STRENGTH", "WEAK", "WeakConfig"]

WEAK = "weak"
"""Its name as a part, a phase and a graph."""

STRENGTH = 2.0
"""w of D₀ + w (D₁ − D₀), unless told otherwise: the paper's best ones lie near it (Table 1: 1.7 to 2.2)."""


class WeakConfig(BaseConfig):
    """The same task and loss, less capacity and less training (Section 4 of the paper: both at once).

    every:   trained in one of so many steps, on the step's batch; 0: not trained, its weights come by
             `train.init_from: {weak: "runs/earlier:denoiser"}` (of a checkpoint, say) and stay as they are
    others:  settings of its network that differ from the model's; None is the model's own
    """

    every: int = Field(4, ge=0)
    network: dict[str, Any] | None = None
    widths: tuple[int, ...] | None = Field(None, min_length=1)
    blocks: int | None = Field(None, ge=1)
    attention: tuple[int, ...] | None = None
    heads: int | None = Field(None, ge=1)
    groups: int | None = Field(None, ge=1)
    dropout: float | None = Field(None, ge=0, lt=1)
    patch: int | None = Field(None, ge=1)

    def changes(self) -> dict[str, Any]:
        """What differs, by the names that a `DenoiserConfig` has."""
        return {k: v for k, v in self.model_dump(exclude={"every"}).items() if v is not None}
