"""Judges: what is measured of a model, what a verdict rests on. One file each; they register themselves."""

from __future__ import annotations

from niwaki.evaluation.judges.base import Blocks, Evidence, Figure, Judge, Margins, Section, Tools, Verdicts
from niwaki.evaluation.judges.registry import judge_named, judge_names, judges_for, register_judge

__all__ = [
    "Blocks",
    "Evidence",
    "Figure",
    "Judge",
    "Margins",
    "Section",
    "Tools",
    "Verdicts",
    "judge_named",
    "judge_names",
    "judges_for",
    "register_judge",
]
