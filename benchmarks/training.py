"""How fast the trainer is: samples per second against a plain PyTorch loop over the same networks.

    python benchmarks/training.py                             # dcgan on glyphs and digits, ddpm on digits
    python benchmarks/training.py --recipes recipes/digits-gan.yaml --rounds 9 --json training.json
    python benchmarks/training.py --ways plain niwaki niwaki-fp32 compiled

plain:       float32, a DataLoader at its best flags (0 or 2 persistent workers, whichever is faster here),
             the loop of PyTorch's own examples: eager, default optimizer, the fake images made once per
             step, averaged weights
niwaki:      `niwaki.training.fit` with the recipe's settings: bf16 where the hardware has it
niwaki-fp32: the same in float32: what is gained beside the precision
compiled:    the same as `niwaki` with `compile: true`; compiling counts as warming up

In every round each way trains for `--steps` steps after 16 untimed ones; the order rotates, so that what
else the machine does hits all ways alike. Quoted: the median over the rounds with its quartiles, and the
ratio of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from niwaki.core.contract import GenerativeModel
from niwaki.core.store import write_json
from niwaki.data import Split, load
from niwaki.deployment import machine
from niwaki.models.registry import build
from niwaki.recipe import Recipe, load_recipe
from niwaki.training import TrainConfig, fit
from niwaki.training.hardware import choose_device

RECIPES = ("recipes/glyphs-gan.yaml", "recipes/digits-gan.yaml", "recipes/digits-ddpm.yaml")
WARM = 16
"""Untimed steps; lazy R1 comes every 16 steps, so that any multiple of them holds its share of it."""

CLOCKS: list[Callable[[], float]] = [time.perf_counter]
"""The clock in use. The processor time of one thread (`--clock cpu --threads 1`) is little moved by what
else a shared machine does; DataLoader workers do not count in it."""

Block = Callable[[int], float]
"""Trains for a number of steps and returns the seconds they took, warm-up excluded."""


def endless(loader: DataLoader[tuple[Tensor, ...]], device: torch.device) -> Iterator[list[Tensor]]:
    while True:
        for batch in loader:
            yield [t.to(device, non_blocking=True) for t in batch]


def plain_dcgan(model: Any, config: TrainConfig) -> Callable[[list[Tensor]], None]:
    """The DCGAN example of PyTorch, with this model's losses: D on real, D on fake.detach(), lazy R1, then
    G."""
    generator, critic, c = model.generator, model.discriminator, model.config
    rate = config.lr if isinstance(config.lr, dict) else {"discriminator": config.lr, "generator": config.lr}
    opt_d = torch.optim.Adam(critic.parameters(), lr=rate["discriminator"], betas=config.betas)
    opt_g = torch.optim.Adam(generator.parameters(), lr=rate["generator"], betas=config.betas)
    done = 0

    def step(batch: list[Tensor]) -> None:
        nonlocal done
        x, y = batch[0], batch[1] if model.classes else None
        fake = generator(torch.randn(len(x), c.latent, device=x.device), y)
        opt_d.zero_grad()
        (F.softplus(-critic(x, y)).mean() + F.softplus(critic(fake.detach(), y)).mean()).backward()
        opt_d.step()
        if c.r1 and done % c.r1_every == 0:
            real = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(critic(real, y).sum(), real, create_graph=True)
            opt_d.zero_grad()
            (0.5 * c.r1 * c.r1_every * gradient.square().flatten(1).sum(1).mean()).backward()
            opt_d.step()
        opt_g.zero_grad()
        F.softplus(-critic(fake, y)).mean().backward()
        opt_g.step()
        done += 1

    return step


def plain_ddpm(model: Any, config: TrainConfig) -> Callable[[list[Tensor]], None]:
    """Algorithm 1 of Ho, Jain & Abbeel 2020, with v-prediction and dropped labels."""
    c = model.config
    assert c.prediction == "v"
    assert isinstance(config.lr, float)
    opt = torch.optim.Adam(model.denoiser.parameters(), lr=config.lr, betas=config.betas)

    def step(batch: list[Tensor]) -> None:
        x = batch[0]
        t = torch.randint(0, c.train_steps, (len(x),), device=x.device)
        eps = torch.randn_like(x)
        a, s = (level[:, None, None, None] for level in model.path.levels(t))
        inputs = [a * x + s * eps, t.float()]
        if model.classes:
            y = batch[1]
            if model.guided:
                y = torch.where(torch.rand(len(x), device=x.device) < c.conditioning.drop, model.classes, y)
            inputs.append(y)
        opt.zero_grad()
        F.mse_loss(model.denoiser(*inputs), a * eps - s * x).backward()
        opt.step()

    return step


CHANGES: dict[str, dict[str, Any]] = {
    "niwaki": {},
    "niwaki-fp32": {"precision": "fp32"},
    "compiled": {"compile": True},
}
PLAIN = {"dcgan": plain_dcgan, "ddpm": plain_ddpm}


def plain_block(
    make: Callable[[], GenerativeModel], split: Split, config: TrainConfig, workers: int
) -> Block:
    device = choose_device(config.device)
    model = make().to(device).train()
    tensors = (split.values(),) if split.y is None else (split.values(), split.y)
    loader = DataLoader(
        TensorDataset(*tensors),
        batch_size=config.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    batches = endless(loader, device)
    step = PLAIN[model.name](model, config)
    average = [p.detach().clone() for p in model.parameters()]

    def block(steps: int) -> float:
        for i in range(WARM + steps):
            if i == WARM:
                began = synchronized(device)
            step(next(batches))
            if config.ema:
                with torch.no_grad():
                    for e, p in zip(average, model.parameters(), strict=True):
                        e.lerp_(p, 1 - config.ema)
        return synchronized(device) - began

    return block


def niwaki_block(
    make: Callable[[], GenerativeModel], split: Split, config: TrainConfig, **change: Any
) -> Block:
    model = make()

    def block(steps: int) -> float:
        logged: list[float] = []
        # A log line reads the metrics, and so waits for the device: that is when the clock is looked at.
        settings = config.model_copy(
            update={"steps": WARM + steps, "log_every": WARM, "stages": (), "checkpoint_every": 0, **change}
        )

        def look(step: int, total: int, last: dict[str, float]) -> None:
            if step % WARM == 0:
                logged.append(CLOCKS[0]())

        fit(model, split, settings, seed=0, progress=look)
        return logged[-1] - logged[0]

    return block


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return CLOCKS[0]()


def best_workers(make: Callable[[], GenerativeModel], split: Split, config: TrainConfig) -> int:
    """The DataLoader's better number of workers, by one block each."""
    seconds = {workers: plain_block(make, split, config, workers)(WARM) for workers in (0, 2)}
    return min(seconds, key=lambda w: seconds[w])


def measure(
    recipe: Recipe, ways: list[str], rounds: int, steps: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Samples per second of each way, by rounds."""
    dataset = load(recipe.data)
    config = recipe.train
    assert config is not None

    def make() -> GenerativeModel:
        torch.manual_seed(recipe.seed)
        return build(recipe.model["name"], recipe.model_settings, dataset.spec)

    workers = best_workers(make, dataset.train, config) if "plain" in ways else 0
    blocks: dict[str, Block] = {}
    for way in ways:
        if way == "plain":
            blocks[way] = plain_block(make, dataset.train, config, workers)
        else:
            blocks[way] = niwaki_block(make, dataset.train, config, **CHANGES[way])
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for i in range(len(ways)):
            way = ways[(turn + i) % len(ways)]
            rates[way].append(config.batch * steps / blocks[way](steps))
            say(f"{recipe.name}: round {turn + 1} of {rounds}, {way}: {rates[way][-1]:.0f} samples/s")
    return {
        "recipe": recipe.name,
        "model": recipe.model["name"],
        "batch": config.batch,
        "steps": steps,
        "rounds": rounds,
        "seed": recipe.seed,
        "workers": workers,
        "samples_per_second": {way: summary(values) for way, values in rates.items()},
    }


def summary(values: list[float]) -> dict[str, Any]:
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"median": middle, "quartiles": [low, high], "all": values}


def table(figures: list[dict[str, Any]], ways: list[str]) -> Table:
    out = Table(title=r"Training, samples per second: median \[quartiles], and the ratio to the first way")
    out.add_column("recipe")
    for way in ways:
        out.add_column(way, justify="right")
    for f in figures:
        base = f["samples_per_second"][ways[0]]["median"]
        cells = []
        for way in ways:
            s = f["samples_per_second"][way]
            low, high = s["quartiles"]
            cells.append(f"{s['median']:.0f} [{low:.0f}–{high:.0f}] {s['median'] / base:.2f}×")
        out.add_row(f"{f['recipe']} (batch {f['batch']})", *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="recipes of a dcgan or a ddpm")
    parser.add_argument(
        "--ways", nargs="+", default=["plain", "niwaki"], help="plain niwaki niwaki-fp32 compiled"
    )
    parser.add_argument("--rounds", type=int, default=7, help="times each way is timed")
    parser.add_argument("--steps", type=int, default=16, help="timed steps in a round, a multiple of 16")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what a second is")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    if asked.steps % WARM or asked.steps < WARM:
        parser.error(f"--steps must be a multiple of {WARM}")
    if unknown := set(asked.ways) - {"plain", *CHANGES}:
        parser.error(f"there is no way '{unknown.pop()}'")
    torch.set_num_threads(asked.threads)
    CLOCKS[0] = {"wall": time.perf_counter, "cpu": time.process_time}[asked.clock]
    progress, console = Console(stderr=True), Console()
    figures = []
    for path in asked.recipes:
        figures.append(measure(load_recipe(path), asked.ways, asked.rounds, asked.steps, progress.print))
        if asked.json:
            write_json(
                asked.json,
                {"machine": machine(), "threads": asked.threads, "clock": asked.clock, "figures": figures},
            )
    console.print(table(figures, asked.ways))


if __name__ == "__main__":
    main()
