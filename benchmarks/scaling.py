"""How a training would scale to a thousand GPUs: a simulation of its communication against a step's time.

    python benchmarks/scaling.py                          # digits DDPM, whose step is measured here
    python benchmarks/scaling.py --parameters 675e6 --step 0.45 --bytes 2   # another model and machine
    python benchmarks/scaling.py --validate               # the model of time against gloo's on this machine

Weak scaling: every GPU has the batch that the step was measured with. Efficiency is the step's time on one
GPU divided by that with what communication cannot be hidden behind the backward pass. Nothing else is in it:
no stragglers, no data loading; the last table says what checkpoints and failures cost.

--validate fits latency and bandwidth to two processes and to four, and says what the fit to two predicts of
four: how far the formula can be trusted on one machine, whose processes also share its cores.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from niwaki.core.store import write_json

GPUS = (8, 64, 512, 1024)
NODE = 8
"""GPUs of one machine."""
BUCKET = 25e6
"""Bytes of gradients that DDP sends together."""
BACKWARD = 2 / 3
"""Share of a step in the backward pass, which takes about twice the forward's arithmetic."""


@dataclass(frozen=True)
class Link:
    """latency: seconds of one message; bandwidth: bytes a second that one GPU sends"""

    latency: float
    bandwidth: float


INSIDE = Link(3e-6, 300e9)
"""Between the GPUs of a machine: an NVLink of 300 GB/s each way."""
NETWORKS = {
    "400 Gbit/s a GPU": Link(10e-6, 50e9),
    "100 Gbit/s a GPU": Link(10e-6, 12.5e9),
    "25 Gbit/s a GPU": Link(20e-6, 3.125e9),
}


def all_gather(ranks: int, size: float, link: Link) -> float:
    """Seconds of a ring all-gather, or reduce-scatter, of `size` bytes in all:
    (p − 1)·α + (p − 1)/p · M/B (Thakur, Rabenseifner & Gropp 2005, section 4.1)."""
    return (ranks - 1) * link.latency + (ranks - 1) / ranks * size / link.bandwidth


def all_reduce(ranks: int, size: float, link: Link) -> float:
    """Seconds of a ring all-reduce, a reduce-scatter and an all-gather:
    2(p − 1)·α + 2(p − 1)/p · M/B (Patarasuk & Yuan 2009, equation 4)."""
    return 2 * all_gather(ranks, size, link)


def tree_all_reduce(ranks: int, size: float, link: Link) -> float:
    """Seconds of a pipelined all-reduce along two binary trees: 2·log₂p·α + 2M/B (Sanders, Speck & Träff
    2009, section 4): a little more to send than a ring, and far fewer messages one after another."""
    return 0.0 if ranks == 1 else 2 * math.log2(ranks) * link.latency + 2 * size / link.bandwidth


def between_machines(gpus: int, size: float, network: Link) -> float:
    """Seconds of an all-reduce of each GPU's part of `size` bytes with its like in other machines, by the
    faster of both ways, as NCCL chooses."""
    machines = max(1, gpus // NODE)
    part = size / min(NODE, gpus)
    return min(way(machines, part, network) for way in (all_reduce, tree_all_reduce))


def by_machines(gpus: int, size: float, network: Link) -> float:
    """Seconds of an all-reduce in two levels: reduce-scatter inside a machine, all-reduce of a GPU's part
    between machines, all-gather inside."""
    return 2 * all_gather(min(NODE, gpus), size, INSIDE) + between_machines(gpus, size, network)


def ddp(gpus: int, size: float, network: Link) -> list[float]:
    """Seconds of each bucket's all-reduce; `size` bytes of gradients."""
    count = max(1, math.ceil(size / BUCKET))
    return [by_machines(gpus, size / count, network)] * count


def fsdp(gpus: int, size: float, network: Link) -> list[float]:
    """Everything sharded over all GPUs: of each block, all-gathers for the forward and the backward pass, and
    a reduce-scatter of the gradients (Rajbhandari et al. 2020, section 7: 3/2 of what DDP sends). A ring over
    several machines enters and leaves each of them once, over the links of all of its GPUs together."""
    count = max(1, math.ceil(size / BUCKET))
    link = INSIDE if gpus <= NODE else Link(network.latency, min(NODE * network.bandwidth, INSIDE.bandwidth))
    return [3 * all_gather(gpus, size / count, link)] * count


def hybrid(gpus: int, size: float, network: Link) -> list[float]:
    """Sharded inside a machine, copied between machines (Zhao et al. 2023, section 3.2.2)."""
    count = max(1, math.ceil(size / BUCKET))
    inside = 3 * all_gather(min(NODE, gpus), size / count, INSIDE)
    return [inside + between_machines(gpus, size / count, network)] * count


LAYOUTS: dict[str, Callable[[int, float, Link], list[float]]] = {"DDP": ddp, "FSDP": fsdp, "hybrid": hybrid}


def exposed(buckets: Sequence[float], backward: float) -> float:
    """Seconds of communication that the backward pass does not hide: bucket i of k can be sent when
    i/k of it is done, one after another; the last one always waits for its end."""
    free = 0.0
    for i, seconds in enumerate(buckets, 1):
        free = max(free, backward * i / len(buckets)) + seconds
    return free - backward


def efficiency(step: float, buckets: Sequence[float]) -> float:
    """Share of a GPU's time that is arithmetic."""
    return step / (step + exposed(buckets, BACKWARD * step))


def daly(write: float, between: float) -> float:
    """Seconds between checkpoints that lose least: √(2δM)·(1 + ⅓√(δ/2M) + ⅑ δ/2M) − δ, for δ < 2M, else M
    (Daly 2006, equation 37; the first factor alone is Young 1974).

    write: δ, seconds of writing one; between: M, seconds between failures of the whole machine
    """
    if write >= 2 * between:
        return between
    part = write / (2 * between)
    return math.sqrt(2 * write * between) * (1 + math.sqrt(part) / 3 + part / 9) - write


def lost(write: float, between: float, restart: float, every: float) -> float:
    """Share of the time that writing, work done twice and restarts take: δ/τ + (τ/2 + R)/M, for τ ≪ M."""
    return write / every + (every / 2 + restart) / between


def measured_step(rounds: int) -> tuple[float, float, int]:
    """Median processor time of a training step of digits DDPM with one thread of this machine, in seconds,
    its parameters, and its batch. (On a machine that others use, too, the clock says little.)"""
    from niwaki.data import load
    from niwaki.recipe import load_recipe
    from niwaki.training import fit
    from niwaki.workflow.stages.train import fresh_model

    torch.set_num_threads(1)
    recipe = load_recipe("digits-ddpm", ["train.device=cpu", "train.steps=1000", "train.ema=0"])
    assert recipe.train is not None
    dataset = load(recipe.data)
    model = fresh_model(recipe, dataset)
    times: list[float] = []

    class Enough(Exception):
        pass

    after = model.after_step

    def stamp(ctx: Any) -> None:
        after(ctx)
        times.append(time.process_time())
        if len(times) > rounds + 3:
            raise Enough

    model.after_step = stamp  # type: ignore[method-assign]
    with suppress(Enough):
        fit(model, dataset.train, recipe.train, seed=recipe.seed)
    steps = [b - a for a, b in pairwise(times[3:])]
    return statistics.median(steps), float(sum(p.numel() for p in model.parameters())), recipe.train.batch


def measured_all_reduce(ranks: int, sizes: Sequence[int], rounds: int) -> list[float]:
    """Fastest of some gloo all-reduces of float32 among processes of this machine, by size in bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    reading, writing = os.pipe()
    children = []
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            found = _rank(rank, ranks, place, sizes, rounds)
            if rank == 0:
                os.write(writing, " ".join(map(str, found)).encode())
            os._exit(0)
        children.append(pid)
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read()
    for pid in children:
        os.waitpid(pid, 0)
    return [float(word) for word in words.split()]


def _rank(rank: int, ranks: int, place: str, sizes: Sequence[int], rounds: int) -> list[float]:
    import torch.distributed as group

    torch.set_num_threads(1)
    group.init_process_group("gloo", init_method=place, rank=rank, world_size=ranks)
    found = []
    for size in sizes:
        data, times = torch.ones(size // 4), []
        for _ in range(rounds + 2):
            group.barrier()
            began = time.perf_counter()
            group.all_reduce(data)
            times.append(time.perf_counter() - began)
        found.append(min(times[2:]))
    group.destroy_process_group()
    return found


def fitted(ranks: int, sizes: Sequence[int], seconds: Sequence[float]) -> Link:
    """Latency and bandwidth by least squares of relative errors of the ring's formula."""
    rows = [
        [2 * (ranks - 1) / t, 2 * (ranks - 1) / ranks * size / t]
        for size, t in zip(sizes, seconds, strict=True)
    ]
    a = torch.tensor(rows, dtype=torch.float64)
    alpha, inverse = torch.linalg.lstsq(a, torch.ones(len(rows), 1, dtype=torch.float64)).solution.flatten()
    return Link(float(alpha), 1 / float(inverse))


def validate(console: Console, rounds: int) -> dict[str, Any]:
    """Measured all-reduces of two and four processes, and what the formula says of four from two."""
    sizes = [4**k for k in range(6, 14)]  # 4 KiB … 64 MiB
    two, four = (measured_all_reduce(ranks, sizes, rounds) for ranks in (2, 4))
    link, own = fitted(2, sizes, two), fitted(4, sizes, four)
    table = Table("bytes", "2 measured", "2 fitted", "4 measured", "4 from 2", "4 fitted", title="ms, gloo")
    rows = []
    for size, a, b in zip(sizes, two, four, strict=True):
        said = [a, all_reduce(2, size, link), b, all_reduce(4, size, link), all_reduce(4, size, own)]
        rows.append({"bytes": size, "seconds": said})
        table.add_row(f"{size:,}", *(f"{1e3 * t:.3f}" for t in said))
    console.print(table)
    for name, found in (("2", link), ("4", own)):
        console.print(f"{name} processes: α {1e6 * found.latency:.0f} µs, B {found.bandwidth / 1e9:.2f} GB/s")
    return {"two": vars(link), "four": vars(own), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=float, help="of the model; default: digits DDPM")
    parser.add_argument("--step", type=float, help="seconds of a step on one GPU; default: measured here")
    parser.add_argument("--bytes", type=float, default=4, help="of a gradient's number: 4, or 2 for bf16")
    parser.add_argument("--rounds", type=int, default=20, help="steps or all-reduces that are timed")
    parser.add_argument("--validate", action="store_true", help="time gloo here instead")
    parser.add_argument("--write", type=float, default=30.0, help="seconds of writing a checkpoint")
    parser.add_argument(
        "--restart", type=float, default=600.0, help="seconds until work goes on after a failure"
    )
    parser.add_argument("--hours", type=float, default=50_700.0, help="between two failures of one GPU")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()
    console = Console()
    if asked.validate:
        found = validate(console, asked.rounds)
    else:
        found = simulate(console, asked)
    if asked.json:
        write_json(asked.json, found)


def simulate(console: Console, asked: argparse.Namespace) -> dict[str, Any]:
    step, parameters, batch = asked.step, asked.parameters, 0
    if step is None or parameters is None:
        step_here, parameters_here, batch = measured_step(asked.rounds)
        step, parameters = step or step_here, parameters or parameters_here
    size = parameters * asked.bytes
    of = f", batch {batch} a GPU" if batch else ""
    console.print(
        f"{parameters:,.0f} parameters, {size / 1e6:.1f} MB of gradients, step {1e3 * step:.1f} ms{of}"
    )
    found: dict[str, Any] = {"parameters": parameters, "step": step, "bytes": size, "efficiency": {}}
    for name, network in NETWORKS.items():
        table = Table("GPUs", *LAYOUTS, title=f"efficiency, {name}")
        for gpus in GPUS:
            row = {layout: efficiency(step, of_(gpus, size, network)) for layout, of_ in LAYOUTS.items()}
            found["efficiency"].setdefault(name, {})[gpus] = row
            table.add_row(str(gpus), *(f"{100 * value:.1f} %" for value in row.values()))
        console.print(table)
    table = Table("GPUs", "hours between failures", "checkpoint every", "lost", title="checkpoints")
    for gpus in GPUS:
        between = 3600 * asked.hours / gpus
        every = daly(asked.write, between)
        share = lost(asked.write, between, asked.restart, every)
        found.setdefault("checkpoints", {})[gpus] = {"every": every, "lost": share}
        table.add_row(str(gpus), f"{between / 3600:.0f}", f"{every / 60:.0f} min", f"{100 * share:.2f} %")
    console.print(table)
    return found


if __name__ == "__main__":
    main()
