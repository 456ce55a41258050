"""Several processes that train together, for tests: `processes.py SCENARIO WORLD DIRECTORY …`.

Torch is read once, then every rank is a fork. What a rank says goes to `DIRECTORY/rank-R.txt`; of each
scenario, a line on stdout has the exit statuses of its ranks, in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from training_toys import Adversaries, Regression

from niwaki.core.contract import Batch, Context, DataSpec, Phase, Trainable
from niwaki.core.store import write_json
from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki_runtime.errors import NiwakiError

LOST, AT = 2, 13
"""The rank that is killed, and the step that it does not finish."""
STEPS = 20


class Exact(Trainable):
    """Gradients that are exact in float32, in whatever order they are summed.

    y = Σⱼ sⱼ relu(wⱼ·x + bⱼ) with sⱼ = ±1, and the loss is mean |y − t|: the gradient of w is the mean of
    ±x over samples, for integer x a sum of integers divided by a power of two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 8)
        self.register_buffer("signs", torch.tensor([1.0, -1.0]).repeat(4))
        self.seen: list[list[int]] = []

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("net",)),)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.index is not None
        self.seen.append(batch.index.tolist())
        return batch

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = self.net(batch.x).relu() @ self.signs
        return {"distance": (y - batch.x.sum(1) - 0.3).abs().mean()}


def integers() -> Split:
    """96 vectors of four integers in −8 … 8."""
    x = torch.randint(-8, 9, (96, 4), generator=torch.Generator().manual_seed(7)).float()
    return Split.of(DataSpec.of("vector", (4,), low=-8, high=8), x)


def normals() -> Split:
    return Split.of(
        DataSpec.of("vector", (4,)), torch.randn(96, 4, generator=torch.Generator().manual_seed(7))
    )


def settings(world: int, **more: object) -> TrainConfig:
    shared = {"batch": 16, "precision": "fp32", "device": "cpu", "devices": world, "log_every": 5}
    return TrainConfig.model_validate({"steps": STEPS, "checkpoint_every": 5, **shared, **more})


def exact(rank: int, world: int, directory: Path) -> None:
    """All that follows the gradient: Adam, clipping, micro-batches, an average."""
    model = Exact()
    more = {"lr": 0.05, "clip": 2.0, "accumulate": 2, "ema": 0.9, "warmup": 3}
    fit(model, integers(), settings(world, **more), seed=1, directory=directory, resume=True)
    write_json(directory / f"seen-{rank}.json", model.seen)


def near(rank: int, world: int, directory: Path) -> None:
    """Sums of any numbers, which depend on their order in the last bits."""
    config = settings(world, lr=0.1, optimizer="sgd", steps=60)
    fit(Regression(), normals(), config, seed=1, directory=directory, resume=True)


def drawing(rank: int, world: int, directory: Path) -> None:
    """Two networks, dropout, batch statistics, noise of every rank's own."""
    more = {"lr": 0.01, "clip": 1.0, "ema": 0.9}
    fit(Adversaries(), normals(), settings(world, **more), seed=1, directory=directory, resume=True)


def lost(rank: int, world: int, directory: Path) -> None:
    """As `drawing`, but one rank is killed in the midst of a step."""

    def killed(self: Adversaries, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if rank == LOST and ctx.step + 1 == AT and phase == "penalty":
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, phase, batch, ctx)

    loss, Adversaries.loss = Adversaries.loss, killed  # type: ignore[method-assign]
    drawing(rank, world, directory)


def failed(rank: int, world: int, directory: Path) -> None:
    """As `drawing`, but one rank comes upon an error of its own."""

    def broken(self: Adversaries, ctx: Context) -> None:
        if rank == LOST and ctx.step + 1 == AT:
            raise NiwakiError("the disk of this machine is gone")

    Adversaries.after_step = broken  # type: ignore[method-assign]
    drawing(rank, world, directory)


SCENARIOS: dict[str, Callable[[int, int, Path], None]] = {
    f.__name__: f for f in (exact, near, drawing, lost, failed)
}


def _rank(scenario: str, rank: int, world: int, directory: Path, port: int) -> int:
    """The exit status of a rank; a sentence instead of a traceback where niwaki has one."""
    if world > 1:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        os.environ.update({**where, "LOCAL_RANK": str(rank)})
    torch.manual_seed(0)
    try:
        SCENARIOS[scenario](rank, world, directory)
    except NiwakiError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 70
    return 0


def run(scenario: str, world: int, directory: Path) -> list[int]:
    """The exit statuses of the ranks; −9 for a killed one."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            said = os.open(directory / f"rank-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            status = _rank(scenario, rank, world, directory, port)
            sys.stderr.flush()
            os._exit(status)
        ranks.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]


def together(*asked: tuple[str, int, Path]) -> list[list[int]]:
    """Exit statuses of the ranks of each (scenario, world, directory), one after another."""
    words = [str(word) for one in asked for word in one]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    return [[int(status) for status in line.split()] for line in done.stdout.splitlines()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    # All that a training imports on its way is there before the forks.
    fit(Regression(), normals(), TrainConfig(steps=1, device="cpu"), seed=1)
    for at in range(1, len(sys.argv), 3):
        scenario, world, directory = sys.argv[at : at + 3]
        print(*run(scenario, int(world), Path(directory)), flush=True)
