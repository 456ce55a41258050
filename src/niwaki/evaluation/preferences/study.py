"""What a study of blind pairs found: strengths, ranks, agreement, bias, and what is still needed."""

from __future__ import annotations

from typing import Any

from niwaki.core.errors import CallError
from niwaki.evaluation.preferences.agreement import agreement
from niwaki.evaluation.preferences.bradley_terry import fit_strengths
from niwaki.evaluation.preferences.planning import answers_left
from niwaki.evaluation.preferences.position import position_bias
from niwaki.evaluation.preferences.ratings import Ratings
from niwaki.evaluation.preferences.reliability import reliability

__all__ = ["summarise"]


def summarise(ratings: Ratings, *, reliable: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """A record.

    reliable: raters of whose planted questions certainly (95 %) a smaller share was right are left out, and
              named
    Raises CallError where no answers are left, NiwakiError where models were never compared.
    """
    if not 0.0 <= reliable <= 1.0:
        raise CallError(f"a share of right answers lies in 0 … 1, not {reliable}")
    raters = reliability(ratings.answers)
    dropped = sorted(one.rater for one in raters if one.interval[1] < reliable)
    ratings = ratings.of({one.rater for one in raters} - set(dropped))
    counted = ratings.counted
    if not counted:
        raise CallError("there are no answers yet" if not dropped else "no rater is as reliable as that")
    strengths = fit_strengths([one.answer() for one in counted])
    order = sorted(range(len(strengths.items)), key=lambda k: -float(strengths.strength[k]))
    models = []
    for k in order:
        name = strengths.items[k]
        models.append(
            {
                "model": name,
                "strength": float(strengths.strength[k]),
                "interval": [float(v) for v in strengths.interval[k]],
                "preferred": float(strengths.preferred[k]),
                "ranks": list(strengths.ranks(name)),
                "answers": sum(name in (one.left, one.right) for one in counted),
            }
        )
    names = [strengths.items[k] for k in order]
    agreed = agreement([(one.question, one.rater, one.chosen) for one in counted], seed=seed)
    bias = position_bias(counted)
    return {
        "answers": len(counted),
        "skipped": ratings.skipped,
        "left_out": dropped,
        "models": models,
        "chances": {
            a: {b: list(strengths.chance(a, b)) for b in names if b != a} for a in names
        },  # a over b: middle, low, high
        "ties": sum(one.winner == "tie" for one in counted) / len(counted),
        "tie_parameter": strengths.ties,
        "agreement": None if agreed is None else {"alpha": agreed[0], "interval": list(agreed[1])},
        "position": None if bias is None else vars(bias),
        "raters": [vars(one) for one in raters],
        "leader": names[0] if models[0]["ranks"] == [1, 1] else None,
        "answers_left": answers_left(strengths),
    }
