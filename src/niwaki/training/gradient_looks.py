"""What was measured of gradients becomes looks: kept, told where they show a failure, and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from niwaki.training.failures import GRADIENTS, failures_of, kind_of, told
from niwaki.training.gradients import Gauge
from niwaki.training.stages import Stage
from niwaki.training.state import State
from niwaki.training.telling import tell

__all__ = ["look_at_gradients"]


def look_at_gradients(
    state: State, stage: Stage, gauge: Gauge, note: Callable[[str], None] | None
) -> Iterator[tuple[int, dict[str, float]]]:
    """Take in what `gauge` has measured since the last call; yields steps done and figures for the log.

    It must be called before every checkpoint: what was measured before it is part of it. Nothing that
    gradients show ends a stage: it is a reason to look, and what is not finite ends it anyway.
    """
    watch, name = stage.settings.watch, stage.config.name
    for step, norms in groupby(gauge.read(), key=lambda of: of.step):
        assert watch is not None
        seen = state.health.add(name, list(norms))
        done = step + 1
        young = {"young": True} if done - stage.start < watch.after * stage.config.steps else {}
        look = {"step": done, "stage": name, "kind": GRADIENTS, **seen, **young}
        before = [of for of in state.looks if of["stage"] == name and kind_of(of) == GRADIENTS]
        if failures_of(look) or (before and failures_of(before[-1])):  # that all is well follows from silence
            state.looks.append(look)
        tell(state, name, done, told([look], 1), note)
        if "updates" in seen:
            yield (
                done,
                dict(
                    zip(
                        ("updates/slowest", "updates/median", "updates/fastest"), seen["updates"], strict=True
                    )
                ),
            )
