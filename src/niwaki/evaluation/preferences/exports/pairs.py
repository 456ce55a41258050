"""Pairs that a recipe's `train.prefer.pairs` reads: the samples as the models made them, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from niwaki.core.store import jsonable, write_text
from niwaki.evaluation.preferences.exports.export import (
    Export,
    address,
    conditions,
    register_export,
    sample_of,
    spec_of,
)
from niwaki.evaluation.preferences.ratings import Ratings

__all__ = ["Pairs"]


@register_export("pairs")
class Pairs(Export):
    """`{"chosen": …, "rejected": …}` with conditions by name: tokens as lists, all else as `.npy`. Ties
    prefer neither and are left out."""

    def write(self, ratings: Ratings, out: Path) -> int:
        tokens, lines = spec_of(ratings).is_tokens, []
        for one in ratings.counted:
            if one.chosen is None or one.rejected is None:
                continue
            sides: dict[str, Any] = {}
            for name, model in (("chosen", one.chosen), ("rejected", one.rejected)):
                sample = sample_of(ratings, model, one)
                file = address(ratings.sample_file(model, one), out)
                sides[name] = sample.tolist() if tokens else file
            lines.append(json.dumps(jsonable({**conditions(one), **sides})))
        if lines:
            write_text(out, "\n".join(lines) + "\n")
        return len(lines)
