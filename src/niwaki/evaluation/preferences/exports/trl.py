"""The preference form of TRL's trainers: JSON lines of prompt, chosen and rejected."""

from __future__ import annotations

import json
from pathlib import Path

from niwaki.core.store import write_text
from niwaki.evaluation.preferences.exports.export import Export, register_export, shown
from niwaki.evaluation.preferences.ratings import Ratings

__all__ = ["Trl"]


@register_export("trl")
class Trl(Export):
    """Of texts as TRL reads them; of all else `chosen` and `rejected` are files. Ties are left out."""

    def write(self, ratings: Ratings, out: Path) -> int:
        lines = []
        for one in ratings.counted:
            if one.winner == "tie":
                continue
            left, right = shown(ratings, one, out)
            chosen, rejected = (left, right) if one.winner == "left" else (right, left)
            lines.append(
                json.dumps({"prompt": one.words, "chosen": chosen, "rejected": rejected}, ensure_ascii=False)
            )
        if lines:
            write_text(out, "\n".join(lines) + "\n")
        return len(lines)
