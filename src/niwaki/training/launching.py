"""Several processes that meet: how many machines there are, and how a Fabric is launched among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as group
from torch.distributed import DistError

from niwaki_runtime.errors import CallError, NiwakiError, first_line

__all__ = ["join_group", "launch", "machines", "processes", "unseen"]

_WAIT = timedelta(days=7)
"""One that has nothing to do waits for the others; where one is gone, its connection breaks at once."""


def processes(environment: Mapping[str, str] = os.environ) -> int:
    """Processes that `torchrun` or SLURM has started of this call; 1 where neither has."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment.get("WORLD_SIZE", "1"))
    return int(environment.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in environment else 1


def machines(devices: int, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Machines, and processes on each of them, of a call with so many devices in all.

    Raises CallError where `torchrun` or SLURM has started another number, or not as many on each machine.
    """
    started = processes(environment)
    if started == 1:
        return 1, devices
    torchrun = "TORCHELASTIC_RUN_ID" in environment
    name = "torchrun" if torchrun else "SLURM"
    if started != devices:
        raise CallError(f"devices is {devices}, but {name} has started {started} processes; make them equal")
    local = int(environment.get("LOCAL_WORLD_SIZE", started)) if torchrun else 0
    count = started // max(local, 1) if torchrun else int(environment.get("SLURM_NNODES", "1"))
    if started % count:
        raise CallError(f"{name} has started {started} processes on {count} machines; each needs as many")
    return count, started // count


def launch(fabric: Any) -> Any:
    """The same Fabric when its processes have met. Raises NiwakiError where some do not come."""
    for name in ("lightning.fabric", "lightning_fabric"):  # it announces the precision at every start
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        fabric.launch()
    except DistError as error:
        raise NiwakiError(f"the processes did not find each other: {first_line(error)}") from error
    return fabric


def join_group(devices: int) -> tuple[int, Any]:
    """Join so many processes: this one's place on its machine, and a gloo group in which one may wait for
    days. Raises NiwakiError where some do not come."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    count, each = machines(devices)
    fabric = launch(Fabric(accelerator="cpu", devices=each, num_nodes=count, strategy=DDPStrategy()))
    return fabric.local_rank, group.new_group(backend="gloo", timeout=_WAIT)


@contextmanager
def unseen() -> Iterator[None]:
    """Inside the block torch.distributed seems not to be initialised: what this process does by itself would
    otherwise wait for the others to do it, too. Groups that are named still work."""
    world = group.distributed_c10d._get_default_group()
    group.distributed_c10d._update_default_pg(None)
    try:
        yield
    finally:
        group.distributed_c10d._update_default_pg(world)
