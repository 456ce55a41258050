"""Where one of several processes is lost, the others end soon, and say which one it was.

A process whose connection breaks cannot tell who is at its other end: the one that died, or one that only
ends because of it; and some wait for those that are alive. So each counts its seconds in the store through
which all of them first met. Whose count stands still is lost, and the first that finds it out tells the
others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as group

from niwaki.training.checkpoint import list_checkpoints
from niwaki_runtime.errors import NiwakiError, first_line

__all__ = ["Roll", "calling_roll", "is_broken"]

BEAT = 1.0
"""Seconds between two counts."""
PATIENCE = 10
"""Beats without a count after which a process is lost."""
_VERDICT = "niwaki/roll/verdict"
_NETWORK = (
    "third_party/gloo",
    "NCCL",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
)


def is_broken(error: BaseException) -> bool:
    """Whether an error says that a connection to another process broke or timed out."""
    return isinstance(error, group.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _NETWORK)
    )


@contextmanager
def calling_roll(fabric: Any, step: Callable[[], int], directory: Path | None) -> Iterator[None]:
    """Around what several processes do together. Raises NiwakiError in the place of a broken connection.

    step: says how many training steps are done
    """
    if fabric.world_size == 1:
        yield
        return
    roll = Roll(group.distributed_c10d._get_default_store(), fabric.global_rank, fabric.world_size)
    with roll:
        try:
            yield
        except Exception as error:
            if not is_broken(error):
                roll.tell(f"process {roll.rank} of {roll.world} failed ({first_line(error)})")
                raise
            who = roll.call()
            raise NiwakiError(
                f"{who}: the training ended in step {step() + 1}; {_kept(directory)}"
            ) from error


class Roll:
    """The processes of a training, as one of them sees them. Inside its block a thread counts.

    store: of the process group; it lives in process 0 or, with `torchrun`, in its agent
    beat:  seconds between two counts
    """

    def __init__(self, store: Any, rank: int, world: int, beat: float = BEAT) -> None:
        self.store, self.rank, self.world, self.beat = store, rank, world, beat
        self._told = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Roll:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(2 * self.beat)

    def tell(self, verdict: str) -> None:
        """Tell the others what has happened, if nobody has."""
        with suppress(RuntimeError):  # the place where they met may be gone
            if not self.store.check([_VERDICT]):
                self.store.set(_VERDICT, verdict)

    def call(self) -> str:
        """Who is lost, in words; all that are left give the same answer."""
        try:
            verdict = self._found()
            if not self.store.check([_VERDICT]):
                self.store.set(_VERDICT, verdict)
            self._told = self.store.get(_VERDICT).decode()
            if self.rank == 0:
                time.sleep(3 * self.beat)  # the store may end with it: the others hear of it first
        except RuntimeError:
            pass
        return self._told or f"process 0 of {self.world}, where the others meet, no longer answers"

    def _found(self) -> str:
        """As `call`, from this process's own observation."""
        silent = {r: self._counted(r) for r in range(self.world) if r != self.rank}
        for _ in range(PATIENCE):
            if self._end.wait(self.beat) or self.store.check([_VERDICT]):
                break
            silent = {r: count for r, count in silent.items() if count == self._counted(r)}
            if not silent:
                return f"the connection between the {self.world} processes broke"
        lost = " and ".join(map(str, silent))
        verb = "answers" if len(silent) == 1 else "answer"
        return f"process {lost} of {self.world} (counted from 0) no longer {verb}"

    def _counted(self, rank: int) -> bytes:
        key = f"niwaki/roll/{rank}"
        return bytes(self.store.get(key)) if self.store.check([key]) else b""

    def _count(self) -> None:
        beats = 0
        with suppress(RuntimeError):
            while not self._end.is_set():
                self.store.set(f"niwaki/roll/{self.rank}", str(beats := beats + 1))
                if not self._told and self.store.check([_VERDICT]):
                    self._told = self.store.get(_VERDICT).decode()
                self._end.wait(self.beat)


def _kept(directory: Path | None) -> str:
    found = [] if directory is None else list_checkpoints(directory / "checkpoints")
    if not found:
        return "no checkpoint was kept"
    return f"resume it from {directory}, whose last checkpoint is that of step {int(found[-1].name[5:])}"
