"""The `evaluate:` section of a recipe."""

from __future__ import annotations

from pydantic import Field, field_validator

from niwaki.core.base_config import BaseConfig
from niwaki.evaluation.measures import DEFAULT, check_metrics

__all__ = ["EvaluateConfig"]


class EvaluateConfig(BaseConfig):
    """What looks at the samples, and how many there are.

    features: extractors by name (`niwaki.features.names()`)
    n:        generated samples that are judged; None takes as many as the test split has
    metrics:  by name (`niwaki.evaluation.measures.measures()`), or `all`
    seed:     of the samples and of everything random in the judgement
    judges:   who is asked, by name (`niwaki.evaluation.judges`); None is every judge that applies
    """

    features: tuple[str, ...] = Field(default=("classifier", "random"), min_length=1)
    metrics: tuple[str, ...] = DEFAULT
    n: int | None = Field(default=1000, ge=50)
    seed: int = Field(default=0, ge=0, lt=2**32)
    judges: tuple[str, ...] | None = Field(default=None, min_length=1, exclude_if=lambda value: value is None)

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_metrics(value)
