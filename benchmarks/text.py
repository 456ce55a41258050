"""Bits per byte of the recipe `docs-transformer` beside nanoGPT's recipe, after equal time on equal tokens.

    python benchmarks/text.py            # 240 s each, one seed: writes benchmarks/results/text.json
    python benchmarks/text.py --seconds 120 --seeds 0 1 2 --threads 1 --clock cpu

niwaki:  the model and the training of `recipes/docs-transformer.yaml`
nanogpt: our own writing of nanoGPT's recipe (Karpathy 2022): GPT-2's block with learned positions, GELU and
         tied embeddings, AdamW with β = 0.9, 0.95 and decay 0.1 of matrices, clipping at 1, warm-up and a
         cosine down to a tenth; as wide and as deep as ours, with its dropout of 0.2. Its attention is the
         one that it writes out itself where no fast kernel is there: in bf16 on a CPU the faster one

Both read the same windows in bf16 autocast where the hardware has it. The steps that fit into the time are
counted beforehand from timed ones, so that every schedule ends where the time does; a training that took
more than 5 % more or less is made again, with as many steps as its own pace allows; what was validated is
not part of it. `--clock cpu` counts processor time, which a shared machine moves less.
Judged on the test split, all windows, every token given those before it in its window. Beside them what xz
takes, and PPMd and zpaq where their packages are there (`pip install pyppmd zpaq`).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from text_coders import bits_of_coders
from torch import Tensor, nn

from niwaki.core.contract import GenerativeModel
from niwaki.core.store import write_json
from niwaki.data import Dataset, Feeder, Split, load
from niwaki.deployment import machine
from niwaki.evaluation.judges.reading import bytes_of
from niwaki.models.registry import build
from niwaki.recipe import Recipe, load_recipe
from niwaki.training import fit
from niwaki.training.bf16 import has_bf16

OUT = Path("benchmarks/results/text.json")
TRIED = 16  # steps that are timed beforehand
TRIES = 3  # at meeting the time
RATES = (
    6e-4,
    1e-3,
    2e-3,
)  # of nanoGPT: its GPT-2, its small model, and one above; the best on validation counts
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

Scores = Callable[[Tensor], Tensor]
"""Tokens `(n, T)` → log p in nats `(n,)`."""


class GptBlock(nn.Module):
    """GPT-2's: pre-norm, one matrix for query, key and value, GELU, no biases (nanoGPT's default)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = (
            nn.Linear(width, 4 * width, bias=False),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(2, 3)) * (q.shape[-1] ** -0.5)
        p = self.drop(scores.masked_fill(later, -math.inf).softmax(-1).to(v.dtype))
        x = x + self.drop(self.out((p @ v).transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))


class Gpt(nn.Module):
    """Tokens `(n, T)` → logits `(n, T, V)`, each given the tokens before it; before the first stands V."""

    def __init__(self, tokens: int, length: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed, self.place = nn.Embedding(tokens + 1, width), nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(GptBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() >= 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * depth) if last else 0.02)

    def forward(self, x: Tensor) -> Tensor:
        fed = F.pad(x[:, :-1], (1, 0), value=self.tokens)
        h = self.drop(self.embed(fed) + self.place.weight[: x.shape[1]])
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.embed.weight)[..., : self.tokens]


def take_step(
    model: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    bf16: bool,
) -> None:
    """One step of a plain loop on tokens `(n, T)`; `logits_of` gives those of each by what stands before."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = logits_of(x)
    F.cross_entropy(logits.float().flatten(0, 1), x.flatten()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def nanogpt(recipe: Recipe, dataset: Dataset, *, steps: int, seed: int, rate: float) -> tuple[Scores, int]:
    """Trained by nanoGPT's recipe; and its parameters."""
    config = recipe.model_settings
    torch.manual_seed(seed)
    model = Gpt(
        dataset.spec.levels, dataset.spec.shape[0], config["width"], config["depth"], config["heads"], 0.2
    )
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)
    feeder = Feeder(dataset.train, recipe.train.batch, seed=seed)  # type: ignore[union-attr]
    warm, bf16 = max(1, steps // 20), has_bf16(torch.device("cpu"))
    for step in range(steps):
        falling = 0.1 + 0.45 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm) * falling
        take_step(model, model, optimizer, feeder.batch(step).x, bf16)
    model.eval()

    def log_prob(x: Tensor) -> Tensor:
        each = torch.log_softmax(model(x).float(), -1)
        return each.gather(-1, x.unsqueeze(-1)).squeeze(-1).sum(1)

    return log_prob, sum(p.numel() for p in model.parameters())


def ours(recipe: Recipe, dataset: Dataset, *, steps: int, seed: int, rate: float) -> tuple[Scores, int]:
    """Trained by the recipe; and its parameters."""
    torch.manual_seed(seed)
    model: GenerativeModel = build(recipe.model["name"], recipe.model_settings, dataset.spec)
    config = recipe.train.model_copy(  # type: ignore[union-attr]
        update={"steps": steps, "lr": rate, "checkpoint_every": 0, "validation_batches": 0}
    )
    fit(model, dataset.train, config, seed=seed)
    model.eval()
    return model.log_prob, sum(p.numel() for p in model.parameters())  # type: ignore[operator,return-value]


def bits_per_byte(scores: Scores, split: Split) -> np.ndarray:
    """Of every window `(n,)`."""
    found = []
    with torch.no_grad():
        for at in range(0, len(split), 32):
            index = torch.arange(at, min(at + 32, len(split)))
            found.append(-scores(split.values(index)) / math.log(2) / split.attributes["bytes"][index])
    return torch.cat(found).double().numpy()


def timed(way: Callable[..., tuple[Scores, int]], clock: Callable[[], float], **given: Any) -> float:
    """Seconds of a step: of 2·TRIED steps less those of TRIED, so that the start does not count."""
    spent = []
    for steps in (TRIED, 2 * TRIED):
        begun = clock()
        way(steps=steps, seed=99, **given)
        spent.append(clock() - begun)
    return (spent[1] - spent[0]) / TRIED


def in_time(
    way: Callable[..., tuple[Scores, int]],
    clock: Callable[[], float],
    steps: int,
    seconds: float,
    **given: Any,
) -> tuple[Scores, int, int, float]:
    """Trained for `seconds`, within 5 %, in three tries at most: scores, parameters, steps, seconds."""
    for _ in range(TRIES):
        begun = clock()
        scores, size = way(steps=steps, **given)
        spent = clock() - begun
        if abs(spent / seconds - 1) <= 0.05:
            break
        made, steps = steps, max(TRIED, int(steps * seconds / spent))
    else:
        steps = made
    return scores, size, steps, spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="recipes/docs-transformer.yaml")
    parser.add_argument("--seconds", type=float, default=240.0, help="of training, each way")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(RATES), help="that nanoGPT may choose from"
    )
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe, clock = load_recipe(args.recipe), CLOCKS[args.clock]
    dataset = load(recipe.data)
    assert recipe.train is not None
    ways: dict[str, tuple[Callable[..., tuple[Scores, int]], list[float]]] = {
        "niwaki": (ours, [float(recipe.train.lr)]),  # type: ignore[arg-type]
        "nanogpt": (nanogpt, args.rates),
    }
    table = Table(
        "way", "rate", "steps", "parameters", "train s", "test bits/byte", "95 % ±", "spread of seeds"
    )
    rows: dict[str, Any] = {}
    for name, (way, rates) in ways.items():
        each = timed(way, clock, recipe=recipe, dataset=dataset, rate=rates[0])
        steps, tried = max(TRIED, int(args.seconds / each)), {}
        for rate in rates if len(rates) > 1 else ():
            scores, _, steps, _ = in_time(
                way, clock, steps, args.seconds, recipe=recipe, dataset=dataset, seed=args.seeds[0], rate=rate
            )
            tried[rate] = float(bits_per_byte(scores, dataset.validation).mean())
        rate = min(tried, key=lambda r: tried[r]) if tried else rates[0]
        found, seconds, size = [], 0.0, 0
        for seed in args.seeds:
            scores, size, steps, seconds = in_time(
                way, clock, steps, args.seconds, recipe=recipe, dataset=dataset, seed=seed, rate=rate
            )
            found.append(bits_per_byte(scores, dataset.test))
        means = [float(f.mean()) for f in found]
        half = 1.96 * float(np.mean(found, 0).std(ddof=1)) / math.sqrt(len(found[0]))
        spread = statistics.stdev(means) if len(means) > 1 else None
        rows[name] = {
            "rate": rate, "validation_by_rate": tried, "steps": steps, "parameters": size, "seconds": seconds,
            "bits_per_byte": statistics.mean(means), "half_width": half, "by_seed": means,
        }  # fmt: skip
        table.add_row(
            name, f"{rate:g}", str(steps), str(size), f"{seconds:.0f}", f"{statistics.mean(means):.3f}",
            f"{half:.3f}", "–" if spread is None else f"{spread:.3f}",
        )  # fmt: skip
    texts = [bytes_of(dataset, s.x.long().numpy()) for s in (dataset.test, dataset.validation, dataset.train)]
    coders = Table("coder", "alone", "given the training text")
    found_bits = {} if None in texts else bits_of_coders(*texts)  # type: ignore[arg-type]
    for name, bits in found_bits.items():
        rows[name] = bits
        coders.add_row(name, f"{bits['alone']:.3f}", f"{bits['given train']:.3f}")
    Console().print(table, coders)
    record = {
        "machine": machine(), "threads": args.threads, "clock": args.clock, "seconds": args.seconds,
        "seeds": args.seeds, "windows": len(dataset.test), "data": dataset.fingerprint[:12], "rows": rows,
    }  # fmt: skip
    write_json(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
