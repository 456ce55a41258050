"""Calls of a function in further processes: of this machine, of a SLURM cluster, of a Ray cluster."""

from niwaki.workflow.executors.base import Call, Executor, Pending, WorkerLost, results
from niwaki.workflow.executors.places import PLACES, executor, need

__all__ = ["PLACES", "Call", "Executor", "Pending", "WorkerLost", "executor", "need", "results"]
