"""Does a model give away which samples it was trained on?"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from niwaki.core.errors import CallError
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.memorization.membership import Membership, membership_test
from niwaki.evaluation.pairwise.nearest import distances
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.scoring import scorer, ways_to_score
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import ValueSpec

__all__ = ["MembershipUse"]


class MembershipOptions(UseOptions):
    """
    n:    members (training samples) and others (test samples) that are scored, at most
    made: samples of the model that an attacker draws for the attack by distance
    """

    n: int = Field(1000, ge=50)
    made: int = Field(2000, ge=100)


@register_use("membership")
class MembershipUse(Use):
    """Every attack that the model's programs allow, on training samples against test samples: by likelihood,
    by reconstruction, and by the distance to the nearest of many samples that were drawn (Chen et al., "GAN-
    Leaks", CCS 2020; Hilprecht et al., PoPETs 2019), which needs nothing but the samples.
    """

    Options = MembershipOptions
    summary = "whether training samples can be told from others by the model"
    makes = False
    example = "runs/digits-vae -o membership.csv"

    def apply(self, call: Call, options: MembershipOptions) -> Outcome:
        dataset = call.dataset()
        if dataset is None:
            raise CallError(
                "say with --data which data the model was trained on: members are of its training split"
            )
        spec = dataset.spec.x
        n = min(options.n, len(dataset.train), len(dataset.test))
        sides = [split.values()[:n].cpu().numpy() for split in (dataset.train, dataset.test)]
        scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for way in ways_to_score(call.model):
            score, _, _ = scorer(call, way)
            scores[way] = (-score(sides[0]), -score(sides[1]))
        if not spec.is_tokens and SAMPLING in call.model.programs():
            inputs = make_inputs(call.model, SAMPLING, options.made, dataset.train)
            made = call.model.run(
                SAMPLING, options.made, seed=call.seed, inputs=inputs, progress=call.progress
            )
            drawn = np.asarray(call.model.backend().numpy(made), np.float32)
            if drawn.shape[1:] == sides[0].shape[1:]:
                flat = [x.reshape(len(x), -1) for x in (*sides, drawn)]
                scores["distance"] = (-distances(flat[0], flat[2]), -distances(flat[1], flat[2]))
        if not scores:
            raise CallError("this model has no program that an attack could use: log_prob, encode or sample")
        found = {way: membership_test(*pair) for way, pair in scores.items()}
        return _outcome(found, scores, sides, spec)


def _outcome(
    found: dict[str, Membership],
    scores: dict[str, tuple[np.ndarray, np.ndarray]],
    sides: Any,
    spec: ValueSpec,
) -> Outcome:
    rows = [
        {"split": split, "index": i, **{way: float(pair[k][i]) for way, pair in scores.items()}}
        for k, split in enumerate(("train", "test"))
        for i in range(len(sides[k]))
    ]
    lines = []
    for way, test in found.items():
        (low, high), (least, most) = test.interval, test.found_interval
        lines.append(
            f"by {way}: AUC {test.auc:.3f} [{low:.3f}, {high:.3f}]; of the members {test.found:.1%} "
            f"[{least:.1%}, {most:.1%}] are found where {test.rate:.1%} of others are taken for one"
            + (": it leaks" if test.leaks else "")
        )
    record = {"attacks": {way: test.to_json() for way, test in found.items()}, "n": len(sides[0])}
    record["leaks"] = any(test.leaks for test in found.values())
    return Outcome(
        record=record, lines=lines, rows=rows, x=np.concatenate(sides), spec=spec, names=[], ending=".csv"
    )
