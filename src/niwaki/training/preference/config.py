"""What a recipe says about tuning to a preference."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from niwaki.core.base_config import BaseConfig

__all__ = ["PreferConfig", "RewardConfig"]


class RewardConfig(BaseConfig):
    """A reward that is learnt from pairs.

    pairs: a file of JSON lines, as `PreferConfig.pairs`
    steps: of its training
    width: of its network, a multiple of 16
    """

    pairs: str
    steps: int = Field(400, gt=0)
    width: int = Field(32, gt=0, multiple_of=16)


class PreferConfig(BaseConfig):
    """
    by:      `dpo`, `policy_gradient` or `reward_weighted`
    reward:  what a sample is worth: `recognised`, `ngrams`, `length`, or `module:function`, called with
             (samples `(n, *shape)` as the model sees them, conditions by name), `(n,)` numbers; or learnt
             from pairs: `{pairs: FILE}`
    pairs:   for `dpo` in the place of a reward: a file of JSON lines `{"chosen": …, "rejected": …}`, with
             conditions by name beside them
    beta:    β: how dear it is to leave the model as it was
    samples: that the model as it was makes once, to learn from (`dpo`, `reward_weighted`)
    group:   of them asked for the same; in `policy_gradient` those that are each other's baseline
    watch:   samples that reward and diversity are compared by, before and now
    margin:  share of the distance between samples, and of recall, that may be lost
    stop:    end the training where more than that is lost
    """

    by: str
    reward: str | RewardConfig | None = None
    pairs: str | None = None
    beta: float = Field(0.1, gt=0)
    samples: int = Field(1024, ge=4)
    group: int = Field(4, ge=2)
    watch: int = Field(256, ge=8)
    margin: float = Field(0.1, gt=0, lt=1)
    stop: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Of pairs that the tuning follows from."""
        learnt = self.reward.pairs if isinstance(self.reward, RewardConfig) else None
        return tuple(file for file in (self.pairs, learnt) if file is not None)

    @property
    def reward_name(self) -> str:
        return self.reward.pairs if isinstance(self.reward, RewardConfig) else str(self.reward)

    @model_validator(mode="after")
    def _one_judge(self) -> Self:
        if self.reward is None and self.pairs is None:
            raise ValueError("say what is preferred: 'reward', or a file of 'pairs'")
        if self.pairs is not None and self.by != "dpo":
            raise ValueError(f"'pairs' are for dpo; {self.by} needs a 'reward'")
        if self.samples < self.group:
            raise ValueError(f"'samples' {self.samples} must be at least 'group' {self.group}")
        return self
