"""Which states of a training are kept: checkpoints, the best one, and the last one without a NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.training.checkpoint import (
    Checkpoint,
    drop_old,
    latest,
    path_of,
    read_checkpoint,
    save_checkpoint,
)
from niwaki.training.stages import Stage
from niwaki.training.state import State
from niwaki_runtime.errors import NiwakiError

__all__ = ["Keeper"]


class Keeper:
    """Writes checkpoints into `directory`; without one, remembers in memory what a NaN or the choice of the
    best weights needs."""

    def __init__(self, fabric: Any, state: State, directory: Path | None) -> None:
        self.fabric, self.state = fabric, state
        self.folder = None if directory is None else directory / "checkpoints"
        self._good: Checkpoint | None = None
        self._best: Checkpoint | None = None

    def save(self, stage: Stage) -> None:
        """Keep the present state, and the best one of the stage beside the newest ones."""
        state = self.state
        if self.folder is None:
            # One state per stage has to do: it is needed only to search for a NaN.
            if state.counters.step == stage.start:
                self._good = state.state_dict(stage, copy=True)
            return
        if self.fabric.is_global_zero:
            checkpoint = state.state_dict(stage, copy=False)
            spare = state.history.step if stage.settings.keep_best else None
            save_checkpoint(self.folder, checkpoint, state.config.keep, spare)
        self.fabric.barrier()

    def drop_old(self, stage: Stage) -> None:
        """Remove the checkpoints that a killed process could not."""
        if self.folder is not None and self.fabric.is_global_zero:
            spare = self.state.history.step if stage.settings.keep_best else None
            drop_old(self.folder, self.state.config.keep, spare)

    def save_best(self, stage: Stage) -> None:
        """The present state is the best of its stage. In a directory it is the checkpoint of this step."""
        if self.folder is None:
            self._best = self.state.state_dict(stage, copy=True)

    def good(self) -> Checkpoint | None:
        """The last state that was kept, which is always finite."""
        return self._good if self.folder is None else latest(self.folder)[0]

    def restore_best(self, stage: Stage) -> None:
        """Return to the best weights of the stage, the moments that belong to them included.

        Raises NiwakiError where their checkpoint is gone.
        """
        step = self.state.history.step
        if step in (0, self.state.counters.step):
            return
        if self.folder is None:
            best = self._best
        else:
            path = path_of(self.folder, step)
            best = read_checkpoint(path) if path.exists() else None
        if best is None:
            raise NiwakiError(f"the best weights, those of step {step}, are no longer there; train anew")
        self.state.load_weights(best)
        self.state.load_optimizers(best, stage)
