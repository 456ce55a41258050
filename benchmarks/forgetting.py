"""What fine-tuning gains on new data and loses on old ones: the whole model, a frozen part, LoRA and DoRA.

    python benchmarks/forgetting.py                        # about two minutes on two free cores
    python benchmarks/forgetting.py --seeds 5 --steps 600

NICE (`recipes/digits-nice.yaml`, smaller) learns the handwritten digits 0 … 4, then is fine-tuned on 5 … 9.
A figure is the mean difference in bits per dimension of the same held-out digits (validation split), after
less before, with 1.96 standard errors over digits (of each, the mean over seeds): below zero is a gain. Seeds
change the base, the order of the data and the adapters.
"""

from __future__ import annotations

import argparse
import copy
import math
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from niwaki.data import DataConfig, Split, load
from niwaki.models.registry import build
from niwaki.training import TrainConfig, fit

FINE: dict[str, dict[str, Any]] = {
    "whole model": {},
    "whole model, a third of the rate": {"lr": 3e-4},
    "first half frozen": {"freeze": ["flow.0", "flow.1"]},
    "LoRA, rank 2": {"adapters": {"name": "lora", "rank": 2, "alpha": 4}},
    "LoRA, rank 8": {"adapters": {"name": "lora", "rank": 8, "alpha": 16}},
    "LoRA, rank 8, three times the rate": {"adapters": {"name": "lora", "rank": 8, "alpha": 16}, "lr": 3e-3},
    "DoRA, rank 8": {"adapters": {"name": "dora", "rank": 8, "alpha": 16}},
}
"""Changes of the settings that all share (AdamW at 1e-3, batches of 128)."""


def _alone(part: Split) -> Split:
    """Without the classes, which no new digit could be asked for."""
    return Split({"x": part.columns["x"]})


def bits(model: Any, split: Split) -> np.ndarray:
    """Of each sample, per dimension."""
    with torch.no_grad():
        nats = model.run("log_prob", len(split), seed=0, inputs={"x": split.values()})
    return -np.asarray(nats, dtype=np.float64) / math.log(2) / split.values()[0].numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", type=int, default=400, help="steps of the base")
    parser.add_argument("--steps", type=int, default=200, help="steps of fine-tuning")
    args = parser.parse_args()
    data = load(DataConfig(source="digits"))
    parts = {
        (name, side): _alone(part.select((part.y < 5) == (side == "old")))
        for name, part in (("train", data.train), ("held", data.validation))
        for side in ("old", "new")
    }
    common = {"batch": 128, "optimizer": "adamw", "lr": 1e-3, "clip": 1.0, "ema": 0.99, "warmup": 20}
    changes: dict[tuple[str, str], list[np.ndarray]] = {}
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        base: Any = build("nice", {"layers": 4, "width": 64}, parts["train", "old"].spec)
        fit(base, parts["train", "old"], TrainConfig(steps=args.base, **common), seed=seed)
        before = {side: bits(base, parts["held", side]) for side in ("old", "new")}
        print({side: round(float(v.mean()), 3) for side, v in before.items()}, flush=True)
        for name, settings in FINE.items():
            model = copy.deepcopy(base)
            # The histograms are the base's: taking new ones would forget by itself.
            model.config = model.config.model_copy(update={"marginals": False})
            config = TrainConfig(**{"steps": args.steps, **common, **settings})
            fit(model, parts["train", "new"], config, seed=seed)
            for side in ("new", "old"):
                changes.setdefault((name, side), []).append(bits(model, parts["held", side]) - before[side])
            print(
                seed, name, [round(float(changes[name, s][-1].mean()), 3) for s in ("new", "old")], flush=True
            )
    table = Table("fine-tuned", "new digits 5 … 9", "old digits 0 … 4")
    for name in FINE:
        cells = []
        for side in ("new", "old"):
            found = np.mean(changes[name, side], axis=0)  # of each digit, over seeds
            cells.append(f"{found.mean():+.3f} ± {1.96 * found.std(ddof=1) / math.sqrt(len(found)):.3f}")
        table.add_row(name, *cells)
    counts = {side: len(parts["held", side]) for side in ("new", "old")}
    Console(width=110).print(table, f"held-out digits: {counts}, seeds: {args.seeds}")


if __name__ == "__main__":
    main()
