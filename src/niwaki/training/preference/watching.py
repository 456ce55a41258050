"""What a look at a tuned model is recorded as, and when it is told."""

from __future__ import annotations

from collections.abc import Callable

from niwaki.core.contract import GenerativeModel, Trainable
from niwaki.training.failures import TUNING
from niwaki.training.preference.diversity import verdict
from niwaki.training.stages import Stage
from niwaki.training.state import State

__all__ = ["LOST", "watch_tuning"]

LOST = "less_diverse"
"""Name of the failure (`failures.FAILURES`)."""


def watch_tuning(
    model: Trainable, state: State, stage: Stage, note: Callable[[str], None] | None
) -> dict[str, float]:
    """Look at a model that is tuned, keep that in `state.looks`, tell a loss of diversity once, and at the
    end of the stage what has come of it all; may end the stage. Returns the figures for the log, {} where
    nothing is tuned."""
    tuning, settings = stage.objective, stage.settings.prefer
    if tuning is None or settings is None or not isinstance(model, GenerativeModel):
        return {}
    look = tuning.comparison.look(model)
    step, name = state.counters.step, stage.config.name
    kept, text = verdict(look)
    state.looks.append({"step": step, "stage": name, "kind": TUNING, **look})
    stops = settings.stop and kept == "lost"
    if kept == "lost" and not any(of["failure"] == LOST for of in state.told):
        state.told.append({"step": step, "stage": name, "failure": LOST, "text": text})
        if note is not None:
            note(f"step {step}: {text}{'; the training is stopped' if stops else ''}")
    state.counters.ended |= stops
    if state.counters.ended:
        state.choose(name, "preference", look["diversity"][0], text)
        if note is not None:
            note(f"against the model as it was, {text}")
    figures = {"preference_distance": look["diversity"][0], "preference_recall": look["recall"][1]}
    return figures | ({"preference_reward": look["reward"][1]} if "reward" in look else {})
