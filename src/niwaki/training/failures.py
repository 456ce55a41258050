"""How adversarial training fails, each mode of failure in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["FAILURES", "failures_of", "lasting", "told"]

Look = Mapping[str, Any]
"""One look as it is recorded (`Watcher`): `classes`, `clusters` as [reached, of], `nearest`, `spread` ÷
those of real samples, `overfit`; what could not be had is absent."""

CLASSES, CLUSTERS = 0.75, 0.5
"""Shares that must be reached. Clusters are the trainer's own cuts through the data: a good generator may
pass some by."""
NEAREST, SPREAD = 0.3, 0.3
"""Distances between samples ÷ those between real ones."""
OVERFIT = 0.75
"""Of (E D(train) − E D(held out)) / (E D(train) − E D(made)): 0 where the discriminator knows held-out
samples as well as those it is trained on, 1 where it takes them for made ones (Karras et al. 2020, Equation
1, who hold such a ratio at 0.6). Good models of small data end at 0.4 … 0.6."""
SURE = 3.0
"""Standard errors by which training samples must be preferred to held-out ones."""


def _few(look: Look, of: str, least: float) -> str:
    reached, there = look.get(of) or (0, 0)
    return f"the generator reaches {reached} of {there} {of}" if there and reached < least * there else ""


def _classes(look: Look) -> str:
    return _few(look, "classes", CLASSES)


def _clusters(look: Look) -> str:
    text = _few(look, "clusters", CLUSTERS)
    return f"{text} of the training data" if text else ""


def _alike(look: Look) -> str:
    return "all samples look alike" if look.get("spread", 1.0) < SPREAD else ""


def _repeated(look: Look) -> str:
    if _alike(look) or look.get("nearest", 1.0) >= NEAREST:
        return ""
    return "the generator repeats a few samples: most have a near copy among the others"


def _memorized(look: Look) -> str:
    if look.get("overfit", 0.0) <= OVERFIT or look.get("preferred", 0.0) <= SURE:
        return ""
    return "the discriminator has learnt the training samples by heart"


def _less_diverse(look: Look) -> str:
    if "diversity" in look and look["diversity"][2] < -look["margin"]:
        return f"samples lie {-look['diversity'][0]:.0%} closer together than before it was tuned"
    if "recall" in look and look["recall"][3] < -look["margin"]:
        then, now = look["recall"][:2]
        return f"of what was made before it was tuned it makes {now:.0%}, where {then:.0%} are usual"
    return ""


FAILURES: dict[str, Callable[[Look], str]] = {
    "few_classes": _classes,
    "few_clusters": _clusters,
    "alike": _alike,
    "repeated": _repeated,
    "memorized": _memorized,
    "less_diverse": _less_diverse,
}
"""By name: the sentence where a look shows it, else ""."""


def failures_of(look: Look) -> dict[str, str]:
    """Sentences by failure."""
    found = {name: say(look) for name, say in FAILURES.items()}
    return {name: text for name, text in found.items() if text}


def told(looks: Sequence[Look], patience: int, *, ended: bool = False) -> dict[str, str]:
    """The failures that each of the last `patience` looks shows, as the last one puts them. What was seen in
    early looks (`young`) does not count. At the end of a stage that had time for fewer, these have to do."""
    last = [look for look in looks if not look.get("young")][-patience:]
    if not last or (len(last) < patience and not ended):
        return {}
    found = [failures_of(look) for look in last]
    return {name: text for name, text in found[-1].items() if all(name in of for of in found)}


def lasting(looks: Sequence[Look], failure: Mapping[str, Any]) -> bool:
    """Whether the last look of its stage shows a told failure too; what a whole course shows is not over."""
    if failure.get("course"):
        return True
    tuned = failure["failure"] == "less_diverse"  # seen by looks of its own
    of = [look for look in looks if look["stage"] == failure["stage"] and ("diversity" in look) == tuned]
    return bool(of) and failure["failure"] in failures_of(of[-1])
