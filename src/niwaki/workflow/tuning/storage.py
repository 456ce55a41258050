"""Optuna's part: the storage of a study, its sampler and its pruner. It is imported when first needed."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.core.store import hash_bytes
from niwaki.workflow.lock import waiting_lock

__all__ = ["fixed", "make_pruner", "need_optuna", "open_storage", "sampler"]

_NAME = "niwaki"


def need_optuna() -> Any:
    """The library. Raises CallError that says how to get it."""
    try:
        import optuna
    except ImportError:
        raise CallError("niwaki tune needs Optuna; install it with `pip install 'niwaki[tune]'`") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("optuna").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    return optuna


class _JournalLock:
    """Optuna's lock of a journal by `flock`: it dies with its process, where a lock file of a killed one is
    waited for (`JournalFileSymlinkLock`: 30 s)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._held: Any = None

    def acquire(self) -> bool:
        self._held = waiting_lock(self.directory)
        self._held.__enter__()
        return True

    def release(self) -> None:
        held, self._held = self._held, None
        held.__exit__(None, None, None)


def open_storage(directory: Path, directions: list[str], pruner: Any) -> Any:
    """The study of a directory, a new one or the one that is there."""
    optuna = need_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = directory / "journal.log"
    lock = _JournalLock(directory / "journal")
    lock.acquire()
    try:
        _mend(file)
    finally:
        lock.release()
    storage = JournalStorage(JournalFileBackend(str(file), lock_obj=lock))  # type: ignore[arg-type]
    return optuna.create_study(
        study_name=_NAME, storage=storage, directions=directions, pruner=pruner, load_if_exists=True,
        sampler=fixed(),
    )  # fmt: skip


def _mend(file: Path) -> None:
    """Cut off a line that a killed process has not finished: the next one would be joined to it."""
    if not file.exists():
        return
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        with open(file, "r+b") as held:
            held.truncate(data.rfind(b"\n") + 1)


def sampler(seed: int, number: int, startup: int, running: bool) -> Any:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), its random numbers those of trial `number`
    of a study with this seed: they do not depend on what happened before, so a study that was stopped goes on
    as it would have.

    running: whether other trials are under way; they are then taken for bad ones (the constant liar)
    """
    optuna = need_optuna()
    mixed = int(hash_bytes(f"{seed}/{number}".encode())[:8], 16)
    return optuna.samplers.TPESampler(n_startup_trials=startup, seed=mixed, constant_liar=running)


def fixed() -> Any:
    """A sampler for those who ask nothing."""
    return need_optuna().samplers.RandomSampler(seed=0)


def make_pruner(kind: str, every: int, longest: int) -> Any:
    """By name.

    every:   steps between validations
    longest: steps of the longest trial
    """
    pruners = need_optuna().pruners
    if kind == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=longest // 4)
    if kind == "hyperband":
        return pruners.HyperbandPruner(min_resource=max(every, 1), max_resource=max(longest, every, 1))
    return pruners.NopPruner()
