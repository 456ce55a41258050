"""Looks at an adversarial training now and then, and tells what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Batch
from niwaki.data import Split
from niwaki.data.inputs import make_inputs
from niwaki.training.failures import SAMPLES, kind_of, told
from niwaki.training.reached import NEIGHBOURS, apart, kinds_reached, nearest_kind, rows_of
from niwaki.training.schedule import seed_of
from niwaki.training.stages import Stage, set_modes
from niwaki.training.state import State
from niwaki.training.telling import tell
from niwaki_runtime.programs import SAMPLING

__all__ = ["Watcher"]

KNOWN = 2000
"""Training samples that generated ones are compared with, at most."""
CLUSTERS = 20
LOOKS, SHORTEST = 20, 100
"""In a stage where nothing else is said, and the steps of a stage that is looked at."""
SURELY = 0.7
"""Share of the known samples whose class their neighbours must tell, for it to be believed of generated
ones."""


@dataclass(frozen=True)
class _Known:
    """The training data as far as looks compare with them.

    rows:    `(n, d)`; classes: `(n,)`, None where there are none or neighbours do not tell them
    centres: of clusters `(k, d)`; cluster: of each row
    """

    rows: Tensor
    classes: Tensor | None
    centres: Tensor
    cluster: Tensor


class Watcher:
    """Of one training; its looks are kept in `state.looks`, so that a resumed training goes on with them.

    train, held_out: split that the discriminator learns from, and one that it has never seen (or None)
    note:            called with a sentence when a failure is told for the first time
    alone:           whether no other process trains along: clocks differ, and all have to look at the same
                     steps
    """

    def __init__(
        self,
        state: State,
        train: Split,
        held_out: Split | None,
        note: Callable[[str], None] | None = None,
        *,
        alone: bool = True,
    ) -> None:
        self.state, self.train, self.held_out, self.note, self.alone = state, train, held_out, note, alone
        self.seconds, self._longest, self._adversary = 0.0, 0.0, True

    def due(self, stage: Stage) -> bool:
        """Whether this step is followed by a look, if it has the time."""
        watch, step = stage.settings.watch, self.state.counters.step
        if watch is None or not self._adversary:
            return False
        if not watch.every and stage.config.steps < SHORTEST:
            return False
        every = watch.every or stage.config.steps // LOOKS
        if (step - stage.start) % every and not self.state.counters.ended:
            return False
        if watch.stop or not watch.share or not self.alone or self.state.counters.ended:
            return True
        return self.seconds + self._longest <= watch.share * self.state.seconds

    def look(self, stage: Stage, place: Callable[[Batch], Batch]) -> dict[str, float]:
        """Look once; what was seen, as figures for the log. Told failures go to `note` and `state.told`; may
        end the stage. {} for a model without an adversary, which is asked once."""
        watch, state = stage.settings.watch, self.state
        assert watch is not None
        began = time.perf_counter()
        seen = self._seen(stage, watch.samples, place)
        self._adversary = bool(seen)
        if not seen:
            return {}
        step = state.counters.step
        young = step - stage.start < watch.after * stage.config.steps
        look = {"step": step, "stage": stage.config.name, **seen, **({"young": True} if young else {})}
        state.looks.append(look)
        here = [of for of in state.looks if of["stage"] == stage.config.name and kind_of(of) == SAMPLES]
        failures = told(here, watch.patience, ended=state.counters.ended)
        more = "; the training is stopped" if watch.stop else ""
        tell(state, stage.config.name, step, failures, self.note, more=more)
        state.counters.ended |= watch.stop and bool(failures)
        took = time.perf_counter() - began
        self.seconds += took
        self._longest = max(self._longest, took)
        return _figures(look)

    @torch.no_grad()
    def _seen(self, stage: Stage, n: int, place: Callable[[Batch], Batch]) -> dict[str, Any]:
        """{} where there is no adversary."""
        model = self.state.model
        model.eval()
        look: dict[str, Any] = {}
        if model.realness(place(self.train.batch(torch.arange(min(2, len(self.train)))))) is not None:
            look = self._looked(n, place)
        set_modes(model, stage.settings)
        return look

    def _looked(self, n: int, place: Callable[[Batch], Batch]) -> dict[str, Any]:
        state = self.state
        model: Any = state.model  # what has an adversary makes samples
        with state.ema.swapped() if state.ema else nullcontext():
            seed = seed_of(state.seed, "watch", state.counters.step) % 2**31
            inputs = make_inputs(model, SAMPLING, n, self.train)
            made = model.run(SAMPLING, n, seed=seed, inputs=inputs)
        # The discriminator as it is, not its average: that is what the generator learns from.
        return {**self._compared(rows_of(made)), **self._discriminated(made, inputs, place)}

    def _compared(self, made: Tensor) -> dict[str, Any]:
        """Generated rows against real ones in their place."""
        known = self._known
        n = min(len(made), len(known.rows))
        real, distance = known.rows[:n], apart(known.rows[:n])
        of_made = apart(made[:n])
        out: dict[str, Any] = {
            key: of_made[key] / distance[key] if distance[key] else 1.0 for key in ("nearest", "spread")
        }
        sides: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if known.classes is not None:
            told_of = nearest_kind(known.rows, known.rows, known.classes, itself=True)
            sides["classes"] = (nearest_kind(made[:n], known.rows, known.classes), told_of[:n], known.classes)
        if len(known.centres) > 1:
            near = [torch.cdist(rows, known.centres).argmin(1) for rows in (made[:n], real)]
            sides["clusters"] = (near[0], near[1], known.cluster)
        for name, (of_generated, of_real, all_) in sides.items():
            reached = kinds_reached(of_generated, of_real, torch.bincount(all_) / len(all_))
            out[name] = [reached.count, reached.of]
            if reached.missing:
                out[f"missing_{name}"] = list(reached.missing)
        return out

    def _discriminated(self, made: Tensor, inputs: Any, place: Callable[[Batch], Batch]) -> dict[str, float]:
        """How much more the discriminator believes the samples that it learns from than others."""
        if self.held_out is None or len(self.held_out) < 2:
            return {}
        model, n = self.state.model, min(len(made), len(self.train), len(self.held_out))
        sides = [place(split.batch(torch.arange(n))) for split in (self.train, self.held_out)]
        labels = {name: torch.as_tensor(value)[:n] for name, value in inputs.items()}
        sides.append(place(Batch({"x": made[:n].to(sides[0].x), **labels})))
        logits = [model.realness(side) for side in sides]
        train, held, fake = (of.double().cpu() for of in logits if of is not None)
        error = float(((train.var() + held.var()) / n).sqrt())
        reach, gap = float(train.mean() - fake.mean()), float(train.mean() - held.mean())
        if reach <= 0 or error <= 0:  # it cannot tell made samples, by heart least of all
            return {"overfit": 0.0, "preferred": 0.0}
        return {"overfit": gap / reach, "preferred": gap / error}

    @cached_property
    def _known(self) -> _Known:
        from sklearn.cluster import KMeans

        split = self.train.select(torch.arange(min(KNOWN, len(self.train))))
        rows, y = rows_of(split.values()), split.y
        classes = None if y is None or not split.spec.classes else y.cpu().long()
        if classes is not None:
            told_of = nearest_kind(rows, rows, classes, itself=True) if len(rows) > NEIGHBOURS else classes
            classes = classes if (told_of == classes).double().mean() >= SURELY else None
        found = KMeans(min(CLUSTERS, len(rows)), n_init=1, random_state=0).fit(rows.numpy())
        return _Known(
            rows,
            classes,
            torch.from_numpy(found.cluster_centers_).float(),
            torch.from_numpy(found.labels_).long(),
        )


def _figures(look: dict[str, Any]) -> dict[str, float]:
    """What a chart shows of a look."""
    shares = {
        f"{k}_reached": look[k][0] / look[k][1] for k in ("classes", "clusters") if look.get(k, (0, 0))[1]
    }
    return {**shares, **{k: float(look[k]) for k in ("nearest", "spread", "overfit") if k in look}}
