"""A training in a process of its own, for tests that kill it: `training_process.py DIRECTORY STEPS
[DEVICES]`.

Prints each finished step. Ends with status 3 where it was interrupted and has saved its state.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from training_toys import Adversaries, Regression

from niwaki.core.contract import DataSpec
from niwaki.data import Split
from niwaki.training import Interrupted, TrainConfig, fit

STEP = 0.004
"""Seconds that each step is drawn out, so that a kill can fall anywhere."""


class Slow(Adversaries):
    def after_step(self, ctx):
        super().after_step(ctx)
        time.sleep(STEP)
        print(ctx.step + 1, flush=True)


def config(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch=8, lr=0.01, clip=1.0, ema=0.9, log_every=7, checkpoint_every=5, keep=3
    )


def split() -> Split:
    return Split.of(
        DataSpec.of("vector", (4,)), torch.randn(96, 4, generator=torch.Generator().manual_seed(7))
    )


def main(directory: str, steps: str, devices: str = "1") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if devices != "1":
        both = {"batch": 16, "lr": 0.1, "optimizer": "sgd", "precision": "fp32", "device": "cpu"}
        shared = TrainConfig(steps=int(steps), devices=int(devices), log_every=5, checkpoint_every=5, **both)
        fit(Regression(), split(), shared, seed=1, directory=Path(directory), resume=True)
        return
    try:
        fit(Slow(), split(), config(int(steps)), seed=1, directory=Path(directory), resume=True)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
