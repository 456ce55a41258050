"""Preferences: what the answers of a study of blind pairs say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError
from niwaki.evaluation.preferences.exports import export_ratings
from niwaki.evaluation.preferences.planning import answers_needed
from niwaki.evaluation.preferences.ratings import read_ratings
from niwaki.evaluation.preferences.study import summarise
from niwaki.report.preference_picture import draw_preferences

__all__ = ["preferences"]


def preferences(
    answers: str | Path | None = None,
    *,
    reliable: float = 0.0,
    exports: Mapping[str, str | Path] | Sequence[tuple[str, str | Path]] = (),
    picture: str | Path | None = None,
    plan: float | None = None,
    power: float = 0.8,
    ties: float = 0.0,
    per_rater: int = 1,
    within_rater: float = 0.0,
) -> dict[str, Any]:
    """Strengths, ranks, agreement and biases of answers; and how many answers a study needs.

    answers:  `answers.jsonl` of a studio, or its folder
    reliable: raters of whose planted questions certainly a smaller share was right are left out
    exports:  files by form: `pairs` (for `train.prefer`), `trl`, `label-studio`
    picture:  a PNG of strengths and chances
    plan:     chance of the better one to be preferred, above ½: the answers that show it with `power`;
              `ties`, `per_rater` and `within_rater` as of `answers_needed`
    Returns the record of `summarise`, with `picture`, `exports` and `planned` where they were asked for.
    Raises CallError where neither answers nor a plan are given, NiwakiError where there are no answers.
    """
    if answers is None and plan is None:
        raise CallError("name a file of answers, or plan a study with --plan 0.6")
    found: dict[str, Any] = {}
    if plan is not None:
        asked = {"power": power, "ties": ties, "per_rater": per_rater, "within_rater": within_rater}
        needed = answers_needed(plan, **asked)  # type: ignore[arg-type]
        found["planned"] = {"answers": needed, "chance": plan, "level": 0.05, **asked}
    if answers is None:
        return found
    ratings = read_ratings(Path(answers))
    found |= summarise(ratings, reliable=reliable)
    kept = ratings.of({one["rater"] for one in found["raters"]} - set(found["left_out"]))
    if picture is not None:
        found["picture"] = draw_preferences(found, Path(picture))
    pairs = exports.items() if isinstance(exports, Mapping) else exports
    found["exports"] = {
        form: {"file": Path(file), "answers": export_ratings(kept, form, Path(file))} for form, file in pairs
    }
    return found
