"""Flows beside zuko: bits per dimension of the digits at equal parameters and equal time of training.

    pip install zuko==1.6.0
    python benchmarks/flows.py --seconds 60 --seeds 3

Every row sees the same images, the same uniform dequantisation (of training: drawn anew; of validation and
test: the likelihood judge's own), the class as one-hot context, and is scored by p(x) = Σ_y p(y) p(x | y).
One training loop for all: AdamW, a cosine over the CPU seconds that training has used (one thread; the clock
of a shared machine would be unfair), averaged weights, those of the best of ten validations. zuko's widths
are chosen so that it has as many parameters as ours; its inputs are logits as in the RealNVP paper, or our
marginals.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from niwaki import models
from niwaki.core.contract import Batch, Context
from niwaki.core.store import write_json
from niwaki.data import DataConfig, Dataset, Split, load
from niwaki.deployment import machine
from niwaki.evaluation.judges.likelihood import dequantised
from niwaki.models.flow.marginals import Marginals

STEP, CLASSES, SIZE = 0.125, 10, 64
OURS = {"layers": 8, "width": 128, "dropout": 0.25}


class Scored(nn.Module):
    """log p(x | y) of dequantised digits, whoever's flow it is."""

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError


class Ours(Scored):
    def __init__(self, data: Dataset, **changes: object) -> None:
        super().__init__()
        self.model: Any = models.build("realnvp", {**OURS, **changes}, data.spec)
        x, y = data.train.values(), labels(data.train)
        with torch.no_grad():
            ctx = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))
            self.model.begin_stage(ctx, lambda k: Batch({"x": x[k::32], "class": y[k::32]}))

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        return self.model.class_log_prob(x, y)


class Logit(nn.Module):
    """logit(α + (1 − 2α) x), x in 0 … 1, α = 0.05 (Dinh et al. 2017, Section 4.1)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        width = 2.0 + STEP
        u = 0.05 + 0.9 * (x + 1.0 + STEP / 2) / width
        slope = math.log(0.9 / width) - torch.log(u) - torch.log1p(-u)
        return torch.logit(u), slope.sum(1)


class Zuko(Scored):
    def __init__(self, make: Callable[[int], nn.Module], data: Dataset, parameters: int, ours: bool) -> None:
        super().__init__()
        width = min(range(16, 400, 4), key=lambda w: abs(size(make(w)) - parameters))
        self.flow = make(width)
        self.entry: nn.Module = Logit()
        if ours:
            self.entry = Marginals(SIZE, -1.0 - STEP / 2, 1.0 + STEP / 2, 17)
            self.entry.fit(data.train.values().flatten(1))

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        h, logdet = self.entry(x.flatten(1))
        return self.flow(nn.functional.one_hot(y, CLASSES).float()).log_prob(h) + logdet


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def labels(split: Split) -> Tensor:
    return split.columns["class"].values()


def zuko() -> Any:
    """The peer. Ends the program where it is not installed."""
    try:
        import zuko as found
    except ImportError:
        sys.exit("this benchmark compares with zuko, which is not installed: pip install zuko==1.6.0")
    return found


def real_nvp(width: int) -> nn.Module:
    return zuko().flows.RealNVP(SIZE, CLASSES, transforms=8, hidden_features=(width, width))


def nsf(width: int) -> nn.Module:
    return zuko().flows.NSF(SIZE, CLASSES, transforms=4, passes=2, hidden_features=(width, width))


def maf(width: int) -> nn.Module:
    return zuko().flows.MAF(SIZE, CLASSES, transforms=5, hidden_features=(width, width))


def rows(data: Dataset) -> dict[str, Callable[[], Scored]]:
    count = size(models.build("realnvp", OURS, data.spec))
    return {
        "niwaki RealNVP": lambda: Ours(data),
        "niwaki RealNVP, equal cells": lambda: Ours(data, marginals=False),
        "zuko RealNVP, logit": lambda: Zuko(real_nvp, data, count, ours=False),
        "zuko RealNVP, our marginals": lambda: Zuko(real_nvp, data, count, ours=True),
        "zuko NSF (coupling), logit": lambda: Zuko(nsf, data, count, ours=False),
        "zuko MAF, logit": lambda: Zuko(maf, data, count, ours=False),
        "zuko MAF, our marginals": lambda: Zuko(maf, data, count, ours=True),
    }


@torch.no_grad()
def bits(model: Scored, split: Split, prior: Tensor) -> float:
    """−log₂ P(x) per pixel, by the likelihood judge's own noise."""
    model.eval()
    x = torch.from_numpy(dequantised(split.values().numpy(), STEP, 0))
    each = [model.log_prob_given(x, torch.full((len(x),), c)) + prior[c] for c in range(CLASSES)]
    nats = torch.logsumexp(torch.stack(each), 0)
    return float(-nats.mean()) / SIZE / math.log(2.0) - math.log2(STEP)


def train(
    model: Scored,
    data: Dataset,
    seconds: float,
    seed: int,
    *,
    clock: Callable[[], float] = time.process_time,
    tick: Callable[[int], None] = lambda samples: None,
    untimed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, float]:
    """One training, with the weights of its best validation; `tick` is called after every step with its
    samples, validations are done inside `untimed`."""
    rng = torch.Generator().manual_seed(seed)
    x, y = data.train.values(), labels(data.train)
    prior = torch.log((torch.bincount(y, minlength=CLASSES) + 1.0) / (len(y) + CLASSES))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4)
    average, best, kept = copy.deepcopy(model), math.inf, copy.deepcopy(model)
    step, spent, due = 0, 0.0, 0.1
    while spent < seconds:
        begun = clock()
        rate = 1e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1.0 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        i = torch.randint(0, len(x), (128,), generator=rng)
        noisy = x[i] + STEP * (torch.rand(x[i].shape, generator=rng) - 0.5)
        loss = -model.log_prob_given(noisy, y[i]).mean() / SIZE
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            share = 1.0 - min(0.995, (step + 1) / (step + 10))
            for a, b in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(b, share)
        step, spent = step + 1, spent + clock() - begun
        tick(len(noisy))
        if spent >= due * seconds:  # validating costs no training time
            due += 0.1
            with untimed():
                found = bits(average, data.validation, prior)
                if found < best:
                    best, kept = found, copy.deepcopy(average)
    return {
        "validation": best,
        "test": bits(kept, data.test, prior),
        "steps": step,
        "parameters": size(model),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "flows.json")
    given = parser.parse_args()
    version = zuko().__version__
    torch.set_num_threads(1)
    data = load(DataConfig(source="digits"))
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(given.seeds):  # in turns, so that whatever the machine does meets all rows
        for name, make in rows(data).items():
            torch.manual_seed(seed)
            found.setdefault(name, []).append(train(make(), data, given.seconds, seed))
            print(seed, name, found[name][-1], flush=True)
    table = Table("", "parameters", "steps", "test bits/dim", "± over seeds")
    for name, runs in found.items():
        test = [r["test"] for r in runs]
        spread = statistics.stdev(test) if len(test) > 1 else math.nan
        steps = statistics.median(r["steps"] for r in runs)
        table.add_row(
            name,
            f"{runs[0]['parameters']:,.0f}",
            f"{steps:.0f}",
            f"{statistics.mean(test):.3f}",
            f"{spread:.3f}",
        )
    Console().print(table)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seconds": given.seconds, "n": len(data.test), "zuko": version, "machine": machine()}
    write_json(given.out, {**facts, "rows": found})


if __name__ == "__main__":
    main()
