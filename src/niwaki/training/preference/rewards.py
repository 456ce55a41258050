"""What a sample is worth, by name: more is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from niwaki.data import Split
from niwaki.training.user_losses import function_of
from niwaki_runtime.errors import CallError, nearest

__all__ = ["Reward", "reward", "reward_names", "reward_of"]

Reward = Callable[[Tensor, Mapping[str, Tensor]], Any]
"""(samples `(n, *shape)` as a model sees them, what each was asked for) → `(n,)`; all on the CPU."""

_KNOWN: dict[str, Callable[[Split], Reward]] = {}
NEIGHBOURS, KNOWN = 10, 4096
ORDER = 4


def reward(name: str) -> Callable[[Callable[[Split], Reward]], Callable[[Split], Reward]]:
    """Decorator: `prefer.reward: name` is made by this function of the training split."""

    def enter(make: Callable[[Split], Reward]) -> Callable[[Split], Reward]:
        _KNOWN[name] = make
        return make

    return enter


def reward_names() -> list[str]:
    return sorted(_KNOWN)


def reward_of(
    reward: str | Reward, name: str, split: Split
) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """A reward that gives float32 `(n,)` on the device of the samples. Raises CallError for a name that is
    none, a function that is not there, and, when called, values that are no finite numbers, one a sample.

    reward: its name, or what it is; name: of it, in errors
    """
    if not isinstance(reward, str):
        function = reward
    elif name in _KNOWN:
        function = _KNOWN[name](split)
    elif ":" in name:
        function = function_of(name, "the reward")
    else:
        hint = nearest(name, [*reward_names(), "module:function"])
        raise CallError(f"train.prefer.reward: there is no '{name}'; {hint}")

    @torch.no_grad()
    def worth(samples: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        given = function(samples.detach().cpu(), {k: v.cpu() for k, v in asked.items()})
        found = torch.as_tensor(given, dtype=torch.float32)
        if found.shape != (len(samples),) or not torch.isfinite(found).all():
            raise CallError(
                f"train.prefer.reward: '{name}' must give one finite number for each of {len(samples)} "
                f"samples, not {tuple(found.shape)}"
            )
        return found.to(samples.device)

    return worth


@reward("recognised")
def recognised(split: Split) -> Reward:
    """Share of the ten nearest training samples that are of the class asked for, the nearer the more it
    counts (weights 1/rank)."""
    if split.y is None:
        raise CallError("the reward 'recognised' needs data with classes")
    known = split.select(torch.arange(min(KNOWN, len(split))))
    rows, y = known.values().cpu().float().flatten(1), known.columns["class"].data.cpu().long()
    weights = 1.0 / torch.arange(1, min(NEIGHBOURS, len(rows)) + 1)

    def worth(samples: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        if "class" not in asked:
            raise CallError("the reward 'recognised' needs a model that is asked for classes")
        near = torch.cdist(samples.float().flatten(1), rows).topk(len(weights), largest=False).indices
        hits = (y[near] == asked["class"].long()[:, None]).float()
        return (hits * weights).sum(1) / weights.sum()

    return worth


@reward("length")
def length(split: Split) -> Reward:
    """Values before the run of equal ones at the end, as a share of all."""

    def worth(samples: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        rows = samples.flatten(1)
        differs = rows != rows[:, -1:]
        last = rows.shape[1] - differs.flip(1).to(torch.int8).argmax(1)
        return torch.where(differs.any(1), last, 0) / rows.shape[1]

    return worth


@reward("ngrams")
def ngrams(split: Split) -> Reward:
    """Share of a sample's runs of four tokens that stand in the training split: the fourth precision of BLEU
    (Papineni et al. 2002) with the whole split as one reference, each run counted once."""
    if not split.spec.x.is_tokens:
        raise CallError("the reward 'ngrams' needs samples of tokens")
    known = {gram for row in split.values().cpu().flatten(1).tolist() for gram in _runs(row)}

    def worth(samples: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        runs = [set(_runs(row)) for row in samples.flatten(1).tolist()]
        return torch.tensor([len(of & known) / max(len(of), 1) for of in runs])

    return worth


def _runs(row: list[int]) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + ORDER]) for i in range(len(row) - ORDER + 1)]
