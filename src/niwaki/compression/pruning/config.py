"""What a recipe says about pruning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from niwaki.compression.step_config import Step
from niwaki_runtime.errors import CallError, nearest

__all__ = ["PruneConfig", "nm"]

_FIXED = {"kind", "what", "exclude"}
"""Fields that every way of pruning has."""

_TAKES = {
    ("channels", "score"): {"ratio", "ratios", "rounds", "recover", "schedule", "round_to", "min_width"}
    | {"importance", "ranking", "heads", "refit"},
    ("channels", "l0"): {"ratio", "method", "train", "weight", "tolerance", "round_to", "min_width"},
    ("channels", "group_lasso"): {"ratio", "method", "train", "weight", "tolerance", "round_to", "min_width"},
    ("weights", "score"): {"ratio", "ratios", "rounds", "recover", "schedule", "importance", "ranking"}
    | {"pattern", "train"},
    ("weights", "l0"): {"ratio", "method", "train", "weight", "tolerance"},
    ("blocks", "score"): {"ratio", "count", "blocks", "recover"},
}
"""(what, method) → the fields that it looks at; any other is refused rather than silently ignored."""

_WHY = {
    "importance": "what goes is found by the method itself",
    "ranking": "what goes is found by the method itself",
    "ratios": "one ratio is aimed at",
    "rounds": "there are no rounds in it",
    "round_to": "no width changes",
    "min_width": "no width changes",
    "heads": "only channels ranked by scores belong to heads",
    "pattern": "patterns n:m are of single weights: what: weights, without a method",
    "count": "blocks alone are counted: what: blocks",
    "blocks": "blocks alone are named: what: blocks",
    "train": "nothing is learned before the cut",
    "weight": "nothing is learned before the cut",
    "tolerance": "nothing is learned before the cut",
    "schedule": "there are no rounds in it",
    "refit": "only channels ranked by scores are cut without training",
}
_RANKINGS = {"channels": ("layer", "global", "adaptive"), "weights": ("layer", "global", "lamp", "erk")}


def nm(pattern: str) -> tuple[int, int]:
    """(n, m) of a pattern `n:m`, 0 < n < m. Raises CallError."""
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", pattern)
    n, m = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < n < m:
        raise CallError(f"a pattern is 'n:m' with 0 < n < m, such as '2:4', not '{pattern}'")
    return n, m


class PruneConfig(Step):
    """Take weights away for good: whole channels, single weights, whole blocks.

    what:       `channels` are cut out, so that every layer really becomes smaller; `weights` become zero one
                by one (embeddings, norms and biases stay); `blocks` are left out
    method:     `score` ranks by `importance`; `l0` learns gates (hard concrete), `group_lasso` shrinks the
                channels' groups, both while training `train` steps on, taught by the uncompressed model
    ratio:      share of the channels, of the weights, of the blocks to take away, 0 … 1
    ratios:     other ratios by names (or beginnings of names) of modules
    rounds:     cut in as many steps, ranking anew after each
    schedule:   of the rounds: `even`, or `cubic`, which takes most at first
    recover:    distillation steps after each round but the last (after each block but the last)
    round_to:   widths stay multiples of this in layers wide enough (engines compute in blocks of 8 or 16)
    min_width:  no layer becomes narrower
    importance: a registered ranking: of channels `magnitude`, `activation`, `taylor`, `geometric_median`,
                `random`; of weights `magnitude`, `taylor`, `movement`, `random`
    ranking:    `layer` takes the same share from every layer, `global` ranks all together, over each layer's
                mean; of channels `adaptive`: every layer loses the same share of its squared scores; of
                weights `lamp` and `erk`
    pattern:    `n:m`: at most n of every m neighbouring weights along the inputs stay; the ratio is 1 − n/m
    count:      blocks to drop; 0 goes by the ratio
    blocks:     names of those that are dropped, instead of as many as matter least
    train:      steps of `l0` and `group_lasso`, and of `movement` before each round
    weight:     of the penalty: λ of `l0`, the first shrinkage of `group_lasso` in thousandths of a norm
    tolerance:  how far from the ratio what was learned may end
    heads:      `auto` cuts channels out of attention heads where that is exact and whole heads elsewhere,
                `only` cuts whole heads and no other channels, `never` no whole heads
    exclude:    names (or beginnings of names) of modules that stay as they are
    refit:      after each cut, weights and biases of the layers that used the channels are solved by least
                squares: what they made of all channels, of those that stay
    """

    kind: Literal["prune"] = "prune"
    what: Literal["channels", "weights", "blocks"] = "channels"
    method: Literal["score", "l0", "group_lasso"] = "score"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    ratios: dict[str, float] = Field(default={})
    rounds: int = Field(default=1, ge=1)
    schedule: Literal["even", "cubic"] = "even"
    recover: int = Field(default=0, ge=0)
    round_to: int = Field(default=8, ge=1)
    min_width: int = Field(default=8, ge=1)
    importance: str = "magnitude"
    ranking: Literal["layer", "global", "adaptive", "lamp", "erk"] = "layer"
    pattern: str = ""
    count: int = Field(default=0, ge=0)
    blocks: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    train: int = Field(default=0, ge=0)
    weight: float = Field(default=1.0, gt=0)
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    heads: Literal["auto", "only", "never"] = "auto"
    exclude: tuple[str, ...] = ()
    refit: bool = Field(default=False, exclude_if=lambda value: not value)

    @model_validator(mode="before")
    @classmethod
    def _ratio_of_the_pattern(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("pattern"), str) and values["pattern"]:
            n, m = nm(values["pattern"])
            share = 1.0 - n / m
            if values.get("ratio", 0.5) not in (0.5, share):
                raise CallError(
                    f"the pattern {n}:{m} takes {share:g} away; leave ratio={values['ratio']} out"
                )
            return {**values, "ratio": share}
        return values

    @field_validator("ratios")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        for name, ratio in value.items():
            if not 0 <= ratio < 1:
                raise CallError(f"the ratio of '{name}' must be at least 0 and below 1, not {ratio}")
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> PruneConfig:
        """Raises CallError for a combination that does not, with the reason."""
        takes = _TAKES.get((self.what, self.method))
        if takes is None:
            can = [m for w, m in _TAKES if w == self.what]
            raise CallError(
                f"there is no method '{self.method}' for {self.what}: "
                + ("groups are of channels; " if self.method == "group_lasso" else "")
                + f"{nearest(self.method, can)}"
            )
        for name, field in type(self).model_fields.items():
            if name not in takes | _FIXED and getattr(self, name) != field.default:
                way = self.what if self.method == "score" else f"{self.what} by '{self.method}'"
                reason = _WHY.get(name, "it has no say there")
                raise CallError(f"'{name}' means nothing for pruning {way}: {reason}")
        self._scores()
        if self.blocks and self.count:
            raise CallError("'blocks' names what is dropped, so there is no 'count' beside it")
        if self.recover and self.rounds == 1 and self.what != "blocks":
            raise CallError(
                "'recover' trains between rounds, and there is only one; put a 'finetune' after it"
            )
        if self.pattern and (self.ratios or self.ranking != "layer"):
            raise CallError("a pattern takes the same share of every layer: leave 'ranking' and 'ratios' out")
        if self.ratios and self.ranking not in ("layer", "erk"):
            raise CallError(f"'ratios' say each layer's share, so there is nothing to rank '{self.ranking}'")
        return self

    def _scores(self) -> None:
        if self.method != "score":
            if not self.train:
                raise CallError(f"the method '{self.method}' learns what goes: give it 'train' steps")
            return
        if self.what == "blocks":
            return
        if self.what == "weights":
            from niwaki.compression.pruning.importance.criteria import criterion_of as known
        else:
            from niwaki.compression.pruning.importance.channels import importance_of as known  # type: ignore[assignment]
        known(self.importance)  # torch is wanted only now
        if self.ranking not in _RANKINGS[self.what]:
            raise CallError(
                f"there is no ranking '{self.ranking}' of {self.what}; "
                f"{nearest(self.ranking, _RANKINGS[self.what])}"
            )
        if (self.importance == "movement") != (self.train > 0):
            raise CallError(
                "'movement' is what weights do in training: give it 'train' steps"
                if self.train == 0
                else f"'train' means nothing for importance '{self.importance}': it is of 'movement'"
            )

    @property
    def trains(self) -> bool:
        """Whether it needs the training data."""
        return bool(self.recover or self.train)

    def refusal(self, earlier: Sequence[Step]) -> str:
        rounded = next((step for step in earlier if step.kind == "quantize"), None)
        if rounded is not None and getattr(rounded, "by", "nncf") == "nncf":
            return (
                "needs weights to change, but 'quantize' has made them integers in the exported graph; "
                "put 'quantize' last, or let it work on the torch model with 'backend: niwaki'"
            )
        if rounded is not None and self.what != "weights":
            return (
                f"would take {self.what} out of layers whose ranges 'quantize' has measured; put it before "
                "(single weights can be pruned while the network computes with rounded ones)"
            )
        if rounded is not None and self.method != "score":
            return f"learns gates of weights ('{self.method}') that 'quantize' has hidden; put it before"
        pattern = next((s.pattern for s in earlier if isinstance(s, PruneConfig) and s.pattern), "")
        if pattern and self.what == "channels":
            return f"would tear the pattern {pattern} apart, which counts neighbours; cut channels before it"
        if pattern and self.what == "weights" and self.pattern != pattern:
            return f"would prune weights that have the pattern {pattern} already; keep one of the two"
        return ""
