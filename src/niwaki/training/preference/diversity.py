"""A tuned model against the model as it was: reward, and how far samples lie apart.

Tuning to a reward finds the few samples that it pays best (Kirk et al. 2023); the reward does not say so. The
mean distance shows a collapse; rare samples that are lost hardly change it: recall and coverage of an
evaluation show those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import GenerativeModel
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.drawing import draw

__all__ = ["Comparison", "mean_distances", "verdict"]

Z = 1.96


def mean_distances(x: Tensor, *, tokens: bool) -> Tensor:
    """Of each sample the mean distance to all others `(n,)` float64: the share of differing tokens, or the
    root of the mean squared difference."""
    rows = x.cpu().flatten(1).double()
    n, size = rows.shape
    if tokens:
        apart = torch.stack([(row != rows).double().mean(1) for row in rows])
    else:
        apart = torch.cdist(rows, rows) / size**0.5
    return apart.sum(1) / (n - 1)


def _interval(difference: Tensor, factor: float = 1.0) -> list[float]:
    mean, error = difference.mean(), factor * difference.std() / len(difference) ** 0.5
    return [float(mean), float(mean - Z * error), float(mean + Z * error)]


class Comparison:
    """Both models at the same seed and conditions, sample by sample."""

    def __init__(
        self,
        reference: GenerativeModel,
        asked: Mapping[str, Tensor],
        worth: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None,
        config: PreferConfig,
        *,
        seed: int,
    ) -> None:
        self.asked, self.worth, self.config, self.seed = dict(asked), worth, config, seed
        self.tokens = reference.spec.x.is_tokens
        self.before = self._measured(reference)

    def _measured(self, model: GenerativeModel) -> tuple[Tensor | None, Tensor]:
        x = draw(model, self.config.watch, self.asked, seed=self.seed, plain=False)
        worth = None if self.worth is None else self.worth(x, self.asked).double().cpu()
        return worth, mean_distances(x, tokens=self.tokens)

    def look(self, model: GenerativeModel) -> dict[str, Any]:
        """`diversity`: the change of the mean distance as a share of what it was, with its 95 % interval, and
        the margin; `reward`: before, now, and the interval of the change, where there is a reward.

        The mean distance is a U-statistic of two samples: the standard error of the change is twice that of
        the mean over samples of their own mean distances (Hoeffding 1948).
        """
        worth, apart = self._measured(model)
        scale = float(self.before[1].mean()) or 1.0
        look: dict[str, Any] = {
            "diversity": [v / scale for v in _interval(apart - self.before[1], 2.0)],
            "margin": self.config.margin,
        }
        if worth is not None and self.before[0] is not None:
            change = _interval(worth - self.before[0])
            look["reward"] = [float(self.before[0].mean()), float(worth.mean()), *change[1:]]
        return look


def verdict(look: Mapping[str, Any]) -> tuple[str, str]:
    """`kept`, `lost` or `open`, and the sentence: a non-inferiority test at the margin."""
    (change, low, high), margin = look["diversity"], look["margin"]
    name = "kept" if low >= -margin else "lost" if high < -margin else "open"
    said = {
        "kept": f"no loss beyond {margin:.0%}",
        "lost": f"a loss beyond {margin:.0%}",
        "open": f"whether more than {margin:.0%} are lost, takes more samples to tell",
    }[name]
    text = f"the distance between samples changed by {change:+.1%} [{low:+.1%}, {high:+.1%}]: {said}"
    if "reward" in look:
        before, now, least, most = look["reward"]
        text = f"the reward went from {before:.4g} to {now:.4g} [{least:+.3g}, {most:+.3g}]; {text}"
    return name, text
