"""A reward that is learnt from pairs (Bradley & Terry 1952; of models: Christiano et al. 2017, Ouyang et al.
2022): σ(r(a) − r(b)) is how likely a is preferred to b."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import DataSpec, GenerativeModel
from niwaki.data import Split
from niwaki.nn.layers.grids import grid_of
from niwaki.nn.layers.shrinking import shrink_to_vector
from niwaki.training.preference.config import RewardConfig
from niwaki.training.preference.pair_files import read_pairs
from niwaki.training.schedule import seed_of
from niwaki_runtime.errors import CallError

__all__ = ["LearntReward", "RewardNetwork", "learn_reward", "pair_loss", "train_reward"]

TOKEN = 32
"""Length of a token's vector."""
LEAST = 40
"""Pairs, of which two fifths are held out: one to choose the weights, one to judge them."""
LOOKS = 20
BATCH, RATE, DECAY = 64, 1e-3, 1e-2


def pair_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """−log σ(r(w) − r(l)), the mean over pairs (Ouyang et al. 2022, Equation 1)."""
    return -F.logsigmoid(chosen - rejected).mean()


class RewardNetwork(nn.Module):
    """Samples `(n, *shape)` and the classes that they were asked for `(n,)` → rewards `(n,)`."""

    def __init__(self, spec: DataSpec, classes: int, width: int) -> None:
        super().__init__()
        grid = grid_of(spec, "the reward model")
        front, channels = grid.front(TOKEN)
        self.body = nn.Sequential(*front, shrink_to_vector(grid.sides, channels, width))
        self.embed = nn.Embedding(classes, width) if classes else None
        self.head = nn.Linear(width, 1)
        bounded = math.isfinite(spec.high - spec.low) and not spec.is_tokens
        low, high = (spec.low, spec.high) if bounded else (-1.0, 1.0)
        self.middle, self.reach = (low + high) / 2, (high - low) / 2

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.body((x.float() - self.middle) / self.reach if x.is_floating_point() else x)
        if self.embed is not None and label is not None:
            h = h * (1.0 + self.embed(label))
        return self.head(h).squeeze(1)


@dataclass(frozen=True)
class LearntReward:
    """A network, and how often it tells the preferred one of held-out pairs: a share with its 95 % interval
    (Wilson 1927)."""

    network: RewardNetwork
    accuracy: float
    interval: tuple[float, float]
    pairs: int

    def __call__(self, samples: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return self.network(samples, asked.get("class"))

    @property
    def text(self) -> str:
        low, high = self.interval
        return (
            f"the reward learnt from pairs tells the preferred one in {self.accuracy:.1%} "
            f"[{low:.1%}, {high:.1%}] of {self.pairs} held-out pairs"
        )


def learn_reward(config: RewardConfig, reference: GenerativeModel, split: Split, seed: int) -> LearntReward:
    """From the pairs of a file. Raises CallError for too few of them, and where what is learnt is no better
    than chance on those that were held out."""
    chosen, rejected, asked = read_pairs(Path(config.pairs), reference, split.spec)
    classes = split.spec.classes if "class" in asked else 0
    found = train_reward(
        split.spec, chosen, rejected, asked.get("class"), classes=classes, config=config, seed=seed
    )
    if found.interval[0] <= 0.5:
        raise CallError(
            f"train.prefer.reward: {found.text}, which may be chance; give more pairs, or such that agree"
        )
    return found


def train_reward(
    spec: DataSpec,
    chosen: Tensor,
    rejected: Tensor,
    label: Tensor | None,
    *,
    classes: int,
    config: RewardConfig,
    seed: int,
) -> LearntReward:
    """The weights of the look with the lowest loss on a fifth of the pairs, judged by another fifth; all
    follows from the seed. On the CPU: it is small, and a resumed training must have the same.

    Raises CallError for fewer than 40 pairs.
    """
    n = len(chosen)
    if n < LEAST:
        raise CallError(f"train.prefer.reward: {n} pairs are too few to learn from; {LEAST} are the least")
    rng = torch.Generator().manual_seed(seed_of(seed, "reward model"))
    order = torch.randperm(n, generator=rng)
    test, held, rest = order[: n // 5], order[n // 5 : 2 * (n // 5)], order[2 * (n // 5) :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "reward network") % 2**63)
        network = RewardNetwork(spec, classes, config.width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)

    def margins(rows: Tensor) -> tuple[Tensor, Tensor]:
        asked = None if label is None else label[rows]
        return network(chosen[rows], asked), network(rejected[rows], asked)

    best, kept = math.inf, copy.deepcopy(network.state_dict())
    with torch.enable_grad():
        for step in range(config.steps):
            rows = rest[torch.randint(len(rest), (min(BATCH, len(rest)),), generator=rng)]
            optimizer.zero_grad()
            pair_loss(*margins(rows)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if (step + 1) % max(config.steps // LOOKS, 1) == 0:
                with torch.no_grad():
                    loss = float(pair_loss(*margins(held)))
                if loss < best:
                    best, kept = loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    network.requires_grad_(False).eval()
    first, second = margins(test)
    right = float((first > second).double().mean())
    return LearntReward(network, right, _wilson(right, len(test)), len(test))


def _wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half
