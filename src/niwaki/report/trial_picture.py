"""The course of a trial: the difference of outcomes and its bounds as users came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from niwaki.report.picture_file import write_picture
from niwaki.sequential.difference import compare_arms
from niwaki.serving.trial.plan import Arm, TrialPlan

__all__ = ["draw_trial"]

_POINTS = 80
_TONES = {"better": "#2e8b57", "worse": "#c0392b", "alike": "#2b6cb0", "go on": "#6b7280"}


def draw_trial(plan: TrialPlan, outcomes: Sequence[tuple[Arm, float]], out: Path) -> Path:
    """outcomes: (arm, value) of users in the order of their coming"""
    from matplotlib.figure import Figure

    values = np.array([value for _, value in outcomes], np.float64)
    given_b = np.array([arm == "b" for arm, _ in outcomes], bool)
    n = len(values)
    ends = np.unique(np.geomspace(2, max(2, n), _POINTS).astype(int)) if n > 1 else np.zeros(0, int)
    course = [
        compare_arms(values[:end], given_b[:end], share=plan.share, level=plan.level, margin=plan.margin)
        for end in ends
    ]
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    if course:
        tone = _TONES[course[-1].decision]
        axes.fill_between(
            ends, [c.low for c in course], [c.high for c in course], color=tone, alpha=0.18, linewidth=0
        )
        axes.plot(ends, [c.difference for c in course], color=tone, linewidth=1.6)
        axes.set_title(
            f"{plan.b} beside {plan.a}: {course[-1].decision}", fontsize=10, loc="left", color=tone
        )
    axes.axhline(0.0, color="black", linewidth=0.8)
    for edge in (-plan.margin, plan.margin) if plan.margin else ():
        axes.axhline(edge, color="black", linewidth=0.8, linestyle="--")
    axes.set_ylim(-1.0, 1.0)
    axes.set_xscale("log")
    axes.set_xlabel("users with an outcome", fontsize=9)
    axes.set_ylabel("difference of outcomes", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return write_picture(figure, out)
