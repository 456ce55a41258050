"""How training fails, each mode of failure in one sentence, and in which looks it is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FAILURES",
    "GRADIENTS",
    "SAMPLES",
    "TUNING",
    "Failure",
    "failures_of",
    "kind_of",
    "lasting",
    "may_end",
    "told",
]

Look = Mapping[str, Any]
"""One look as it is recorded. At samples of an adversarial model (`Watcher`): `classes`, `clusters` as
[reached, of], `nearest`, `spread` ÷ those of real samples, `overfit`. At a tuned model
(`preference.watching`): `diversity`, `margin`. At gradients (`Health.add`): `dead`, `vanishing`,
`exploding`, `fast`, by layer. What could not be had is absent."""

SAMPLES, TUNING, GRADIENTS = "samples", "tuning", "gradients"
"""Kinds of looks."""

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


def _named(names: Sequence[str]) -> str:
    """The first of them, and how many more."""
    return f"'{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _dead(look: Look) -> str:
    names = look.get("dead") or ()
    if not names:
        return ""
    if len(names) == look.get("of"):
        return f"no gradient reaches any of the {len(names)} layers: nothing is learnt any more"
    return f"no gradient reaches {_named(names)}: the loss does not depend on it, or its units are dead"


def _worst(look: Look, of: str, say: str, worst: Callable[..., Any] = max) -> str:
    """say: holds {name}, of the worst layer and how many more, and {value}, its figure"""
    found: Sequence[tuple[str, float]] = look.get(of) or ()
    if not found:
        return ""
    name, value = worst(found, key=lambda layer: layer[1])
    return say.format(name=_named([name, *found[1:]]), value=value)  # type: ignore[list-item]


def _vanishing(look: Look) -> str:
    said = "the gradient of {name} has all but vanished: it is {value:.0e} of the largest in its phase"
    return _worst(look, "vanishing", said, min)


def _exploding(look: Look) -> str:
    return _worst(look, "exploding", "the gradient of {name} explodes: it is {value:,.0f} times what it was")


def _fast(look: Look) -> str:
    said = "every step changes {name} by {value:.0%} of its weights; a lower learning rate is better"
    return _worst(look, "fast", said)


@dataclass(frozen=True)
class Failure:
    """say: the sentence where a look shows it, else ""; seen_in: kind of the looks that can"""

    say: Callable[[Look], str]
    seen_in: str = SAMPLES


FAILURES: dict[str, Failure] = {
    "few_classes": Failure(_classes),
    "few_clusters": Failure(_clusters),
    "alike": Failure(_alike),
    "repeated": Failure(_repeated),
    "memorized": Failure(_memorized),
    "less_diverse": Failure(_less_diverse, TUNING),
    "dead": Failure(_dead, GRADIENTS),
    "vanishing": Failure(_vanishing, GRADIENTS),
    "exploding": Failure(_exploding, GRADIENTS),
    "fast": Failure(_fast, GRADIENTS),
}
"""By name."""


def kind_of(look: Look) -> str:
    """Of a look; older records do not say it."""
    return str(look.get("kind") or (TUNING if "diversity" in look else SAMPLES))


def failures_of(look: Look) -> dict[str, str]:
    """Sentences by failure."""
    kind = kind_of(look)
    found = {name: of.say(look) for name, of in FAILURES.items() if of.seen_in == kind}
    return {name: text for name, text in found.items() if text}


def told(looks: Sequence[Look], patience: int, *, ended: bool = False) -> dict[str, str]:
    """The failures that each of the last `patience` looks (of one kind) shows, as the last one puts them.
    What was seen in early looks (`young`) does not count. At the end of a stage that had time for fewer,
    these have to do."""
    last = [look for look in looks if not look.get("young")][-patience:]
    if not last or (len(last) < patience and not ended):
        return {}
    found = [failures_of(look) for look in last]
    return {name: text for name, text in found[-1].items() if all(name in of for of in found)}


def may_end(failure: Mapping[str, Any]) -> bool:
    """Whether a told failure is one that may end a stage (`watch.stop`)."""
    return not failure.get("course") and FAILURES[failure["failure"]].seen_in != GRADIENTS


def lasting(looks: Sequence[Look], failure: Mapping[str, Any]) -> bool:
    """Whether the last look of its stage that could show a told failure does; what a whole course shows is
    not over."""
    if failure.get("course"):
        return True
    name = failure["failure"]
    kind = FAILURES[name].seen_in
    of = [look for look in looks if look["stage"] == failure["stage"] and kind_of(look) == kind]
    return bool(of) and name in failures_of(of[-1])
