"""The table of docs/features.md: what a linear probe and 20 neighbours make of each kind of features.

PYTHONPATH=tests python -m features.probe_table
"""

from __future__ import annotations

import time

from niwaki.data import DataConfig, load
from niwaki.features import build
from niwaki.features.probe import knn_accuracy, linear_accuracy

SEEDS = (0, 1, 2)


def main() -> None:
    dataset = load(DataConfig(source="digits"))
    train, test = dataset.train, dataset.test
    assert train.y is not None
    assert test.y is not None
    answers = train.y.numpy(), test.y.numpy()
    pixels = train.values().flatten(1).numpy(), test.values().flatten(1).numpy()
    rows: list[tuple[str, list[float], list[float], list[float]]] = [
        (
            "pixels",
            [linear_accuracy(pixels[0], answers[0], pixels[1], answers[1])],
            [knn_accuracy(pixels[0], answers[0], pixels[1], answers[1])],
            [],
        )
    ]
    for name in ("random", "classifier", "simclr", "moco", "mae"):
        linear, near, seconds = [], [], []
        for seed in SEEDS:
            began = time.perf_counter()
            (extractor,) = build([name], dataset, seed=seed)
            seconds.append(time.perf_counter() - began)
            a, b = (extractor(s.values().numpy()) for s in (train, test))
            linear.append(linear_accuracy(a, answers[0], b, answers[1]))
            near.append(knn_accuracy(a, answers[0], b, answers[1]))
        rows.append((name, linear, near, seconds))
    for name, linear, near, seconds in rows:
        shown = [" / ".join(f"{100 * v:.1f}" for v in values) for values in (linear, near)]
        print(f"| {name} | {shown[0]} | {shown[1]} | {' / '.join(f'{s:.0f}' for s in seconds)} |")


if __name__ == "__main__":
    main()
