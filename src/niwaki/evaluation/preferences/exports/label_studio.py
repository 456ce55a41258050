"""Label Studio's tasks with annotations, for a labelling configuration with a `Pairwise` tag:

    <View><Pairwise name="preference" toName="left,right"/>
    <Text name="left" value="$left"/> <Text name="right" value="$right"/></View>

(`Image` or `Audio` in the place of `Text`, with the files served to it).
"""

from __future__ import annotations

from pathlib import Path

from niwaki.core.store import write_json
from niwaki.evaluation.preferences.exports.export import Export, register_export, shown
from niwaki.evaluation.preferences.ratings import Ratings

__all__ = ["LabelStudio"]


@register_export("label-studio")
class LabelStudio(Export):
    """One task for each answer. A `Pairwise` tag has no tie: the annotation of one has no result."""

    def write(self, ratings: Ratings, out: Path) -> int:
        tasks = []
        for one in ratings.counted:
            left, right = shown(ratings, one, out)
            result = {
                "from_name": "preference", "to_name": "left,right", "type": "pairwise",
                "value": {"selected": one.winner},
            }  # fmt: skip
            tasks.append(
                {
                    "data": {"prompt": one.words, "left": left, "right": right},
                    "meta": {"rater": one.rater, "left": one.left, "right": one.right},
                    "annotations": [
                        {"result": [] if one.winner == "tie" else [result], "lead_time": one.ms / 1000}
                    ],
                }
            )
        write_json(out, tasks)
        return len(tasks)
