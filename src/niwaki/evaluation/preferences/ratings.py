"""Answers as a page of blind pairs writes them: a file of JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.store import read_jsonl
from niwaki.evaluation.preferences.bradley_terry import Answer

__all__ = ["ANSWERS", "SAMPLES", "Rating", "Ratings", "read_ratings"]

ANSWERS = "answers.jsonl"
SAMPLES = "samples"
"""Beside the answers, of every model a folder of what was shown, `<number>.npy`."""

Check = Literal["", "identical", "repeat"]
WINNERS = ("left", "right", "tie")


@dataclass(frozen=True)
class Rating:
    """One answer.

    rater, k:    who gave it, and which of that rater's questions it was
    question:    equal where two raters compared the same two samples
    left, right: models, as they were shown
    winner:      `left`, `right` or `tie`
    number:      of both samples in the stream of the study's seed
    check:       `identical` where both sides were one sample, `repeat` where it was asked before with the
                 sides changed; empty of what counts
    ms:          between the question and the answer
    condition:   what was asked of the models, by name; words: the same for people
    texts:       what was shown, of texts: left and right
    """

    rater: str
    k: int
    question: str
    left: str
    right: str
    winner: str
    number: int = 0
    check: Check = ""
    ms: int = 0
    condition: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    texts: tuple[str, ...] = ()

    @property
    def chosen(self) -> str | None:
        """The model that was preferred; None of a tie."""
        return {"left": self.left, "right": self.right}.get(self.winner)

    @property
    def rejected(self) -> str | None:
        return {"left": self.right, "right": self.left}.get(self.winner)

    def answer(self) -> Answer:
        """For the fit of strengths."""
        winner = {"left": 0, "right": 1}.get(self.winner)
        return Answer(self.left, self.right, winner, self.rater)


@dataclass(frozen=True)
class Ratings:
    """
    study:   what was compared: `models` (name → hash), `spec` of a sample, `seed`
    answers: that count, and those of checks, in the order in which they were asked
    skipped: questions that raters left out
    folder:  where samples lie
    """

    study: Mapping[str, Any]
    answers: tuple[Rating, ...]
    skipped: int
    folder: Path

    @property
    def counted(self) -> tuple[Rating, ...]:
        return tuple(one for one in self.answers if not one.check)

    def sample_file(self, model: str, rating: Rating) -> Path:
        return self.folder / SAMPLES / model / f"{rating.number}.npy"

    def of(self, raters: set[str]) -> Ratings:
        """Those of some raters alone."""
        kept = tuple(one for one in self.answers if one.rater in raters)
        return Ratings(self.study, kept, self.skipped, self.folder)


def read_ratings(path: Path) -> Ratings:
    """path: `answers.jsonl`, or the folder that it lies in. Of two answers to one question of a rater the
    later one counts, and none that was undone. Raises NiwakiError where there is no such file, CallError for
    a line that is no answer."""
    file = path / ANSWERS if path.is_dir() else path
    if not file.is_file():
        raise NiwakiError(f"there are no answers at {file}; `niwaki studio A B` asks for them")
    study: Mapping[str, Any] = {}
    last: dict[tuple[str, int], Mapping[str, Any] | None] = {}
    for number, line in enumerate(read_jsonl(file), 1):
        kind = line.get("kind") if isinstance(line, Mapping) else None
        if kind == "study":
            study = line
            continue
        if kind not in ("answer", "skip", "undo") or not isinstance(line.get("k"), int):
            raise CallError(f"{file}, line {number}, is no answer of a study")
        at = str(line.get("rater", "")), line["k"]
        last.pop(at, None)
        last[at] = None if kind == "undo" else line
    lines = [line for line in last.values() if line is not None]
    answers = tuple(_rating(line, file) for line in lines if line["kind"] == "answer")
    return Ratings(study, answers, sum(line["kind"] == "skip" for line in lines), file.parent)


def _rating(line: Mapping[str, Any], file: Path) -> Rating:
    try:
        found = Rating(
            str(line["rater"]), line["k"], str(line["question"]), str(line["left"]), str(line["right"]),
            str(line["winner"]), int(line.get("number", 0)), line.get("check") or "", int(line.get("ms", 0)),
            line.get("condition") or {}, str(line.get("words", "")), tuple(line.get("texts") or ()),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise CallError(
            f"{file}: answer {line['k']} of '{line.get('rater')}' is not whole ({error})"
        ) from None
    if found.winner not in WINNERS:
        raise CallError(f"{file}: an answer is left, right or tie, not {found.winner!r:.40}")
    return found
