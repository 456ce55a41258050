"""A tuned model against the model as it was: reward, how far samples lie apart, and what of the samples
before is still made.

Tuning to a reward finds the few samples that it pays best (Kirk et al. 2023); the reward does not say so. The
mean distance shows a collapse; that rare samples are lost, or every mode is thinned, hardly changes it:
recall shows that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from niwaki.core.contract import GenerativeModel
from niwaki.training.preference.config import PreferConfig
from niwaki.training.preference.drawing import draw
from niwaki.training.preference.support import distances, recalled

__all__ = ["Comparison", "mean_distances", "verdict"]

Z = 1.96


def mean_distances(x: Tensor, *, tokens: bool) -> Tensor:
    """Of each sample the mean distance to all others `(n,)` float64."""
    return distances(x, x, tokens=tokens).sum(1) / (len(x) - 1)


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
        # Of another seed than those that are compared: samples of one noise would lie beside each other.
        self.known = draw(reference, config.watch, self.asked, seed=(seed + 1) % 2**31, plain=False)
        self.before = self._measured(reference)

    def _measured(self, model: GenerativeModel) -> tuple[Tensor | None, Tensor, Tensor]:
        x = draw(model, self.config.watch, self.asked, seed=self.seed, plain=False)
        worth = None if self.worth is None else self.worth(x, self.asked).double().cpu()
        kept = recalled(self.known, x, tokens=self.tokens)
        return worth, mean_distances(x, tokens=self.tokens), kept

    def look(self, model: GenerativeModel) -> dict[str, Any]:
        """`diversity`: the change of the mean distance as a share of what it was, with its 95 % interval;
        `recall`: before, now, and the interval of the change as a share of what it was, of further samples of
        the model before; the margin of both; `reward`: before, now, and the interval of the change, where
        there is a reward.

        The mean distance is a U-statistic of two samples: the standard error of the change is twice that of
        the mean over samples of their own mean distances (Hoeffding 1948). That of recall is over the samples
        that are looked for, pair by pair.
        """
        worth, apart, kept = self._measured(model)
        recall = float(self.before[2].mean()) or 1.0
        scale = float(self.before[1].mean()) or 1.0
        look: dict[str, Any] = {
            "diversity": [v / scale for v in _interval(apart - self.before[1], 2.0)],
            "recall": [
                float(self.before[2].mean()),
                float(kept.mean()),
                *(v / recall for v in _interval(kept - self.before[2])[1:]),
            ],
            "margin": self.config.margin,
        }
        if worth is not None and self.before[0] is not None:
            change = _interval(worth - self.before[0])
            look["reward"] = [float(self.before[0].mean()), float(worth.mean()), *change[1:]]
        return look


def _outcome(low: float, high: float, margin: float) -> str:
    return "kept" if low >= -margin else "lost" if high < -margin else "open"


def verdict(look: Mapping[str, Any]) -> tuple[str, str]:
    """`kept`, `lost` or `open`, and the sentence: a non-inferiority test at the margin, of the distance and
    of recall; what either has lost is lost, and only what both have kept is kept."""
    (change, low, high), margin = look["diversity"], look["margin"]
    names = [_outcome(low, high, margin)]
    text = f"the distance between samples changed by {change:+.1%} [{low:+.1%}, {high:+.1%}]"
    if "recall" in look:
        then, now_kept, least, most = look["recall"]
        names.append(_outcome(least, most, margin))
        text += f", recall of its samples from {then:.3f} to {now_kept:.3f} [{least:+.1%}, {most:+.1%}]"
    name = next(name for name in ("lost", "open", "kept") if name in names)
    said = {
        "kept": f"no loss beyond {margin:.0%}",
        "lost": f"a loss beyond {margin:.0%}",
        "open": f"whether more than {margin:.0%} are lost, takes more samples to tell",
    }[name]
    text = f"{text}: {said}"
    if "reward" in look:
        before, now, least, most = look["reward"]
        text = f"the reward went from {before:.4g} to {now:.4g} [{least:+.3g}, {most:+.3g}]; {text}"
    return name, text
