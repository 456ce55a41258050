"""The averages that a stage tracks for `post_hoc`, and the choice of a length among them in its end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.data import Split
from niwaki.training.averages import power
from niwaki.training.ema import Ema
from niwaki.training.post_hoc import PostHocConfig, reconstruct, snapshot_steps, write_snapshot
from niwaki.training.validation import LOSS, held_out_loss

__all__ = ["Tracker", "choose_length"]


class Tracker:
    """Power-function averages of the weights that a stage trains, kept at a few of its steps.

    names:  parameters that are averaged
    steps:  of the stage
    folder: of this stage's snapshots
    writes: whether this process writes them
    """

    def __init__(
        self,
        config: PostHocConfig,
        model: nn.Module,
        names: Iterable[str],
        steps: int,
        folder: Path,
        writes: bool,
    ) -> None:
        self.folder, self.steps, self.writes = folder, steps, writes
        self.due = snapshot_steps(steps, config.snapshots)
        self.names = list(names)
        self.averages = {length: Ema(model) for length in config.tracked}
        self.decays = {length: partial(power, length=length) for length in config.tracked}
        for average in self.averages.values():
            average.follow(self.names)

    def update(self, within: int) -> None:
        """After step `within` (0 …) of the stage."""
        for length, average in self.averages.items():
            average.update(self.decays[length](within, self.steps))
        if self.writes and within + 1 in self.due:
            write_snapshot(self.folder, within + 1, self._values())

    def _values(self) -> dict[float, dict[str, Tensor]]:
        return {length: {n: a.values[n] for n in self.names} for length, a in self.averages.items()}

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: `length/parameter`."""
        return {f"{length}/{n}": t for length, of in self._values().items() for n, t in of.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        for key, value in tensors.items():
            length, _, name = key.partition("/")
            self.averages[float(length)].values[name].copy_(value)


@torch.no_grad()
def choose_length(loop: Any, config: PostHocConfig, folder: Path, validation: Split | None) -> str:
    """Give the model of a training that has ended the average of the lowest held-out loss; where nothing is
    held out or measured, leave its weights as they are. Returns the sentence that says so."""
    state, stage = loop.state, loop.stage
    parameters = dict(state.model.named_parameters())
    before = {n: p.detach().clone() for n, p in parameters.items()}
    losses: dict[float, float] = {}
    made = reconstruct(folder, config.lengths) if validation is not None and len(validation) else {}
    state.model.eval()
    for length, values in made.items():
        for name, value in values.items():
            parameters[name].copy_(value)
        measured = held_out_loss(
            state.model,
            validation,  # type: ignore[arg-type]
            stage,
            fabric=loop.stepper.fabric,
            seed=state.seed,
            step=state.counters.step,
            place=loop.stepper.place,
        )
        if LOSS in measured:
            losses[length] = float(measured[LOSS])
    best = min(losses, key=losses.__getitem__, default=None)
    for name, value in (before if best is None else made[best]).items():
        parameters[name].copy_(value)
    if best is None:
        return "post_hoc: no loss on held-out data chooses among the averages; the weights are those of 'ema'"
    said = ", ".join(f"{length:g}: {loss:.4g}" for length, loss in losses.items())
    text = f"post_hoc: the average of length {best:g} has the lowest held-out loss ({said})"
    state.choose(stage.config.name, "post_hoc", best, text)
    return text
