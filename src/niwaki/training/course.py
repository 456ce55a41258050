"""What the course of a stage says at its end: it did not converge, it overfitted, its latents say nothing.

Collapse of adversarial training is looked for while it goes on (`niwaki.training.failures`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from niwaki.training.stages import Stage
from niwaki.training.state import State
from niwaki.training.validation import History

__all__ = ["Course", "course_names", "failures_of_course", "tell_course"]

FEWEST = 3
"""Validations that a course must have for its first and its last to mean anything."""
LOST = 0.25
"""Share of what the held-out loss had fallen by, that it must have lost again to be called overfitted."""
SILENT = 0.05
"""Nats of a sample's latent below which a decoder learns nothing from it (posterior collapse; Bowman et al.
2016)."""
FEW_CODES = 2.0
"""Perplexity of a codebook below which it says less than one bit."""


@dataclass(frozen=True)
class Course:
    """A stage that has ended.

    history: its validations
    last:    its last metrics, by `phase/name`
    best:    whether it ended with the weights of its best validation
    """

    history: History
    last: Mapping[str, float]
    best: bool = False


Rule = Callable[[Course], str]
_RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Decorator: a function (course) → a sentence where the course shows it, else ""."""

    def enter(function: Rule) -> Rule:
        _RULES[name] = function
        return function

    return enter


def course_names() -> list[str]:
    return sorted(_RULES)


def failures_of_course(course: Course) -> dict[str, str]:
    """Sentences by name."""
    found = {name: say(course) for name, say in _RULES.items()}
    return {name: text for name, text in found.items() if text}


def tell_course(state: State, stage: Stage, note: Callable[[str], None] | None) -> None:
    """Keep and tell what a stage that has ended shows."""
    course = Course(state.history, state.last, stage.settings.keep_best)
    for name, text in failures_of_course(course).items():
        entry = {"step": state.counters.step, "stage": stage.config.name, "failure": name, "text": text}
        state.told.append({**entry, "course": True})
        if note is not None:
            note(f"at the end of the stage '{stage.config.name}', {text}")


@rule("not_converging")
def _not_converging(course: Course) -> str:
    of = course.history
    if of.count < FEWEST or of.best < of.first:
        return ""
    return f"the held-out loss never fell below its first value, {of.first:.4g}; it ended at {of.last:.4g}"


@rule("overfitted")
def _overfitted(course: Course) -> str:
    of = course.history
    fell = of.first - of.best
    if course.best or of.count < FEWEST or fell <= 0 or of.last - of.best <= LOST * fell:
        return ""
    return (
        f"the held-out loss, lowest after step {of.step:,} ({of.best:.4g}), is {of.last:.4g}; "
        "train.early_stopping or train.keep_best would have kept those weights"
    )


@rule("silent_latent")
def _silent_latent(course: Course) -> str:
    low = [v for n, v in course.last.items() if n.rpartition("/")[2].startswith("nats_of_latent")]
    if not low or max(low) >= SILENT:
        return ""
    return f"the latent says {max(low):.2g} nats of a sample: the decoder has learned to do without it"


@rule("few_codes")
def _few_codes(course: Course) -> str:
    found = {n: v for n, v in course.last.items() if n.rpartition("/")[2].startswith("perplexity")}
    low = {n: v for n, v in found.items() if v < FEW_CODES}
    if not low:
        return ""
    name, value = min(low.items(), key=lambda item: item[1])
    return f"a codebook has collapsed: its codes are as many as {value:.2g} used equally ({name})"
