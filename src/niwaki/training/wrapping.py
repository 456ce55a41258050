"""Settings of optimizers that stand around another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer

from niwaki.training.lookahead import Lookahead
from niwaki.training.optimizers import Betas, Groups, OptimizerConfig, optimizer, optimizer_class

__all__ = ["LookaheadConfig", "WrapperConfig"]


class WrapperConfig(OptimizerConfig):
    """Around another optimizer of the same rate and weight decay.

    inner: its name, or its name and settings: `{name: sgd, momentum: 0.8}`
    betas: what `betas` means for the inner one; None leaves it its own
    """

    around: ClassVar[str]
    """Its own name."""

    inner: str | dict[str, Any] = "adamw"
    betas: Betas | None = None

    @model_validator(mode="after")
    def _inner_is_known(self) -> Self:
        self.inside()
        return self

    def inside(self) -> OptimizerConfig:
        """The settings of the inner one. Raises CallError for a name that is none, ValueError for one that
        cannot stand there."""
        given = {"name": self.inner} if isinstance(self.inner, str) else dict(self.inner)
        name = str(given.pop("name", ""))
        cls = optimizer_class(name)
        if issubclass(cls, type(self)):
            raise ValueError(
                f"the inner optimizer of '{self.around}' cannot be another {self.around.replace('_', ' ')}"
            )
        if cls.averages:
            raise ValueError(
                f"the inner optimizer of '{self.around}' cannot be '{name}', which averages by itself"
            )
        betas = {} if self.betas is None else cls.from_betas(self.betas)
        return cls.model_validate({"lr": self.lr, "weight_decay": self.weight_decay, **betas, **given})

    def groups(self, parameters: Mapping[str, nn.Parameter]) -> Groups:
        return self.inside().groups(parameters)


@optimizer("lookahead")
class LookaheadConfig(WrapperConfig):
    """`niwaki.training.lookahead`.

    k, alpha: steps forward, and the share of their way that is kept
    """

    around: ClassVar[str] = "lookahead"

    k: int = Field(5, ge=1)
    alpha: float = Field(0.5, gt=0, le=1)

    def build(self, groups: Groups) -> Optimizer:
        return Lookahead(self.inside().build(groups), self.k, self.alpha)
