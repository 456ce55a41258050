"""Settings of samplers that the configs of models share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Temperature"]

Temperature = Annotated[float, Field(gt=0, exclude_if=lambda value: value == 1.0)]
"""Standard deviation of the noise that a one-shot sampler draws. 1, as in training, is left out of records:
so a model that was saved before there was a choice is still the same."""
