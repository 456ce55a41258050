"""Workers of a cluster: SLURM jobs by submitit, tasks of Ray. Both are imported when first needed."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.workflow.executors.base import Call, Pending

__all__ = ["RayExecutor", "SlurmExecutor", "library"]

_MOST_MINUTES = 24 * 60


def library(name: str, extra: str) -> Any:
    """Raises CallError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise CallError(
            f"--on {extra} needs {name}; install it with `pip install 'niwaki[{extra}]'`"
        ) from None


class SlurmExecutor:
    """One job for each call, as many at a time as the width says are asked for at once.

    Partition, account and the like are those of `SBATCH_PARTITION`, `SBATCH_ACCOUNT` …, which `sbatch` reads.

    folder:  of scripts, answers and logs, on a file system that all nodes share
    seconds: that a job may take
    cluster: submitit's name of where jobs go; `local` are processes of this machine
    Raises CallError where there is no submitit, or no SLURM.
    """

    def __init__(self, width: int, folder: Path, seconds: float, cluster: str = "slurm") -> None:
        submitit = library("submitit", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise CallError(
                "--on slurm needs a machine from which jobs are sent: there is no `sbatch` on this one"
            )
        self.width = width
        self._jobs: list[Any] = []
        self._executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
        minutes = max(1, min(_MOST_MINUTES, int(seconds / 60) + 1))
        self._executor.update_parameters(
            name="niwaki", timeout_min=minutes, cpus_per_task=1, tasks_per_node=1, nodes=1
        )

    def submit(self, call: Call, words: str) -> Pending:
        job: Any = self._executor.submit(call, words)
        self._jobs.append(job)
        pending: Pending = job
        return pending

    def shutdown(self) -> None:
        for job in self._jobs:
            if not job.done():
                job.cancel()


class RayExecutor:
    """Tasks of one core each, in the cluster of `RAY_ADDRESS`, or in one that is started on this machine.

    Raises CallError where there is no Ray.
    """

    def __init__(self, width: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        self._ray = library("ray", "ray")
        self.width = width
        self._mine = not self._ray.is_initialized()
        if self._mine:
            cores = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": width}
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **cores)
        self._under_way: list[Any] = []

    def submit(self, call: Call, words: str) -> Pending:
        task = self._ray.remote(num_cpus=1, max_retries=0)(call).remote(words)
        self._under_way.append(task)
        pending: Pending = task.future()
        return pending

    def shutdown(self) -> None:
        for task in self._under_way:
            self._ray.cancel(task, force=True)
        if self._mine:
            self._ray.shutdown()
