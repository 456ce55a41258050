"""A failure is told once: it is kept with the training, and said at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from niwaki.training.state import State

__all__ = ["tell"]


def tell(
    state: State,
    stage: str,
    step: int,
    found: Mapping[str, str],
    note: Callable[[str], None] | None,
    *,
    more: str = "",
) -> None:
    """Keep in `state.told`, and say to `note`, what of `found` (sentences by failure) was not told in this
    stage before. step: steps done; more: added to what is said"""
    for name, text in found.items():
        if not any(of["failure"] == name and of["stage"] == stage for of in state.told):
            state.told.append({"step": step, "stage": stage, "failure": name, "text": text})
            if note is not None:
                note(f"step {step}: {text}{more}")
