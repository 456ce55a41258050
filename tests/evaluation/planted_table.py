"""The table of docs/evaluation.md: verdicts on planted damage.

`PYTHONPATH=tests python -m evaluation.planted_table`
"""

from __future__ import annotations

import numpy as np
from evaluation.mixtures import mixtures

from niwaki.data import DataConfig, load
from niwaki.evaluation import Verdict, compare
from niwaki.features import build
from niwaki.modalities.drawing import blur

SEED = 0


def told(v: Verdict) -> str:
    low, high = v.interval
    return f"{v.outcome}: {v.delta:+.3f} ({low:+.3f} … {high:+.3f})"


def main() -> None:
    dataset = load(DataConfig(source="digits"))
    extractors = build(["classifier", "random"], dataset, seed=SEED)
    rng = np.random.default_rng(SEED)
    pool, labels = mixtures(dataset.train.values().numpy(), dataset.train.y.numpy(), 2000, rng)
    for n in (500, 1000, 2000):
        same = compare(pool[:n], pool[:n], dataset, extractors, seed=SEED)
        print(f"n = {n}: margins {same.fidelity.margin:.4f} and {same.diversity.margin:.4f}")
    before, labels = pool[:1000], labels[:1000]
    noise = rng.normal(size=before.shape).astype(np.float32)

    def without(lost: int, share: float = 1.0) -> np.ndarray:
        gone = (labels == lost) & (rng.random(len(labels)) < share)
        after = before.copy()
        after[gone] = before[rng.choice(np.flatnonzero(labels != lost), gone.sum())]
        return after

    ruined = before.copy()
    ruined[::20] = blur(ruined[::20], 2.0, (2, 3))
    planted = {
        "nothing": before,
        "noise of 2 % of the value range": before + 0.04 * noise,
        "noise of 10 %": before + 0.2 * noise,
        "blur, σ = 0.4 pixels": blur(before, 0.4, (2, 3)),
        "blur, σ = 0.5": blur(before, 0.5, (2, 3)),
        "5 % blurred beyond recognition": ruined,
        "contrast × 0.8": 0.8 * (before + 1) - 1,
        "the class 3 dropped": without(3),
        "half of the class 8 dropped": without(8, 0.5),
    }
    for name, after in planted.items():
        found = compare(before, after, dataset, extractors, labels=labels, seed=SEED)
        print(f"| {name} | {told(found.fidelity)} | {told(found.diversity)} |")


if __name__ == "__main__":
    main()
