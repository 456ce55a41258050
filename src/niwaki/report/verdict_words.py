"""A verdict in the words of its test, one of non-inferiority: what was lost is less than X, at margin M."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from niwaki.report.words import NONE, count_text, interval_text, number_text

__all__ = [
    "badge_text",
    "has_margin",
    "lead_text",
    "loss_text",
    "meaning_text",
    "standing",
    "statistic_name",
    "tone_of",
    "value_texts",
]

Z95 = 1.959963984540054
Standing = Literal["gain", "within", "small", "same", "loss", "open"]

_TONES: dict[Standing, str] = {"loss": "bad", "open": "open"}


def has_margin(verdict: Mapping[str, Any]) -> bool:
    """Whether the verdict was held against a margin: one within 1.96 times its own noise is none."""
    margin = verdict.get("margin")
    return margin is None or margin > Z95 * float(verdict.get("margin_noise") or 0.0)


def standing(verdict: Mapping[str, Any]) -> Standing:
    """Where the interval of the loss lies, for a verdict of the outcome `no loss`:

    gain:   wholly below 0
    within: across 0, below the margin
    small:  wholly above 0, below the margin: something was lost, and less than the margin
    same:   every sample is the same after as before, so that no margin is needed

    For the other outcomes `loss`, or `open` where nothing is decided.
    """
    if verdict.get("outcome") == "loss":
        return "loss"
    if verdict.get("outcome") != "no loss":
        return "open"
    if not has_margin(verdict):
        return "same"
    low, high = _interval(verdict)
    if low is None or high is None:
        return "within"
    return "small" if low > 0 else "gain" if high < 0 else "within"


def tone_of(verdict: Mapping[str, Any]) -> str:
    """Colour of a badge: `good`, `bad`, `open`; what was tested in unfit features is never good nor bad."""
    return "open" if verdict.get("unfit") else _TONES.get(standing(verdict), "good")


def badge_text(verdict: Mapping[str, Any]) -> str:
    """The outcome in a few words: `a small loss, inside the margin`, `a hint: loss`."""
    return f"a hint: {_outcome_text(verdict)}" if verdict.get("unfit") else _outcome_text(verdict)


def _outcome_text(verdict: Mapping[str, Any]) -> str:
    margin = verdict.get("margin")
    beyond = "the margin" if margin is None else number_text(margin, 2)
    return {
        "gain": "no loss, a gain",
        "within": f"no loss beyond {beyond}",
        "small": "a small loss, inside the margin",
        "same": "no loss, nothing changed",
        "loss": "loss",
        "open": "inconclusive",
    }[standing(verdict)]


def statistic_name(verdict: Mapping[str, Any]) -> str:
    """What was tested, without its definition: `rarefied coverage`."""
    return str(verdict.get("statistic") or "").split(":")[0].strip()


def loss_text(verdict: Mapping[str, Any]) -> str:
    """`rarefied coverage fell by 0.024 (95 % interval of the loss 0.001 … 0.058), margin 0.050`; empty where
    nothing was tested."""
    low, high = _interval(verdict)
    delta = verdict.get("delta")
    if delta is None or low is None or high is None:
        return ""
    moved = f"{'fell' if delta >= 0 else 'rose'} by {number_text(abs(delta))}"
    margin = number_text(verdict.get("margin")) if has_margin(verdict) else "none"
    interval = f"95 % interval of the loss {interval_text(low, high)}"
    return f"{statistic_name(verdict) or 'the statistic'} {moved} ({interval}), margin {margin}"


def lead_text(axis: str, verdict: Mapping[str, Any]) -> str:
    """A sentence for the top of the page."""
    if verdict.get("unfit"):
        return f"{_lead_text(axis, verdict)} This is a hint only: its features are unfit for these data."
    return _lead_text(axis, verdict)


def _lead_text(axis: str, verdict: Mapping[str, Any]) -> str:
    low, high = _interval(verdict)
    known = low is not None and high is not None and verdict.get("margin") is not None
    margin = f"(margin {number_text(verdict.get('margin'), 2)})"
    match standing(verdict):
        case "same":
            return f"It lost no {axis}: every sample is the same."
        case "loss":
            return (
                f"It lost {axis}: more than {number_text(low, 2)} {margin}." if known else f"It lost {axis}."
            )
        case "open":
            return f"Whether it lost {axis} is undecided{_needed(verdict)}."
        case "gain":
            return f"It lost no {axis}, which rose by {number_text(-float(high or 0), 2)} at least."
        case "small" if known:
            more = "a small loss, inside the margin"
            return f"Of {axis} it lost less than {number_text(high, 2)} {margin}: {more}."
        case _ if known:
            return f"Of {axis} it lost less than {number_text(high, 2)} {margin}."
        case _:
            return f"It lost no {axis} beyond the margin."


def _needed(verdict: Mapping[str, Any]) -> str:
    needed, n = verdict.get("n_needed"), verdict.get("n") or 0
    n = n[0] if isinstance(n, list) else n
    return f"; about {count_text(needed)} samples would tell" if needed and needed > n else ""


def meaning_text(verdict: Mapping[str, Any]) -> str:
    """What the place of the interval means, for the card of a verdict."""
    if verdict.get("unfit"):
        return f"{_meaning_text(verdict)} Taken in unfit features alone, it is a hint and no finding."
    return _meaning_text(verdict)


def _meaning_text(verdict: Mapping[str, Any]) -> str:
    low, high = _interval(verdict)
    margin = verdict.get("margin")
    found = standing(verdict)
    if found != "open":
        return _MEANINGS[found]
    if not has_margin(verdict):
        return (
            "No margin could be fixed beforehand, so that there is nothing to decide against. That is "
            "neither a pass nor a failure."
        )
    if low is None or high is None or margin is None:
        return "That is neither a pass nor a failure."
    if low <= margin <= high:
        return (
            "The interval reaches across the margin that was fixed beforehand, so that these samples cannot "
            "decide. That is neither a pass nor a failure."
        )
    side = "below" if high < margin else "above"
    return (
        f"The interval lies wholly {side} the margin, but what it rests on is not to be relied upon. That is "
        "neither a pass nor a failure."
    )


_MEANINGS: dict[Standing, str] = {
    "gain": "The whole interval lies below 0: by this statistic the samples are better after "
    "compression than before.",
    "within": "Even the pessimistic end of the interval stays below the margin that was fixed beforehand: "
    "whatever was lost is less than was agreed to be tolerable.",
    "small": "The whole interval lies above 0 and below the margin that was fixed beforehand: something was "
    "lost, and it is less than was agreed to be tolerable.",
    "same": "Nothing changed at all, so that no margin is needed.",
    "loss": "Even the optimistic end of the interval lies above the margin that was fixed beforehand: "
    "compression cost more here than was agreed to be tolerable.",
}


def _interval(verdict: Mapping[str, Any]) -> tuple[float | None, float | None]:
    found = verdict.get("interval") or (None, None)
    return found[0], found[1]


def value_texts(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """The statistic before and after."""
    if verdict.get("before") is None:
        return NONE, NONE
    return number_text(verdict["before"]), number_text(verdict.get("after"))
