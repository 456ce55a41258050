"""Several processes train one run: the first one works in the run directory, the others only train along.

The first process starts the others itself, each with its share of every batch, or finds those that `torchrun`
or SLURM has started. Only the first one holds the run's lock and writes; the others read the recipe, join the
training and end with it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from niwaki.core.errors import NiwakiError
from niwaki.training.launching import processes
from niwaki.workflow.processes import end, last_words, start
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["READY", "helpers", "launched_outside", "place_among_processes", "workers"]

READY = "ready"
"""What a worker prints once its data and its model are there."""
_WAIT = 60
"""Seconds that a worker may take to end after the training."""


def place_among_processes() -> int:
    """0 for the first of the processes that `torchrun` or SLURM started, and for one that is alone."""
    if not launched_outside():
        return 0
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def launched_outside() -> bool:
    """Whether somebody else started several processes of this call."""
    return processes() > 1


@contextmanager
def workers(run: Path, devices: int) -> Iterator[None]:
    """While the block trains the run at `run`, devices − 1 further processes train along."""
    with helpers(["niwaki.workflow.worker", str(run)], devices, "training"):
        yield


@contextmanager
def helpers(module: Sequence[str], devices: int, what: str) -> Iterator[None]:
    """While the block works, devices − 1 further processes do, each a call of a module.

    module: its name, and the words that it is called with; it prints `READY` when it has all that it needs
    what:   they do, in sentences
    Raises NiwakiError with a process's own words where one fails; none outlives the block.
    """
    if devices == 1 or launched_outside():
        yield
        return
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    with scratch_directory() as folder:
        logs = [folder / f"{k}.txt" for k in range(1, devices)]
        begun: list[subprocess.Popen[str]] = []
        try:
            begun += [
                start(module, log, environment={**shared, "LOCAL_RANK": str(k)}, stdout=subprocess.PIPE)
                for k, log in enumerate(logs, 1)
            ]
            for process, log in zip(begun, logs, strict=True):
                _await_ready(process, log, what)
            with _environment({**shared, "LOCAL_RANK": "0"}):
                yield
        except NiwakiError:
            raise
        except Exception as error:
            # When one process is gone, the others only see that a connection broke.
            for process, log in zip(begun, logs, strict=True):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                if process.poll() not in (None, 0):
                    raise NiwakiError(f"a process of the {what} failed: {last_words(log)}") from error
            raise
        finally:
            _leave_group()
            end(begun, _WAIT if sys.exc_info()[0] is None else 2, ask=False)


def _await_ready(process: subprocess.Popen[str], log: Path, what: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == READY:
            return
    process.wait()
    raise NiwakiError(f"a process of the {what} could not be started: {last_words(log)}")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _leave_group() -> None:
    """The next training of this process gets a group of its own."""
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        group.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
