"""What a stage is: its inputs say whether it must work, its work leaves one record and files of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.run_context import RunContext

__all__ = ["Stage"]


class Stage(ABC):
    """One stage of a run.

    title:    in sentences
    settings: those of its inputs that decide how long it takes; the others say what it works on
    quick:    it takes no time worth speaking of
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    quick: ClassVar[bool] = False

    @abstractmethod
    def inputs(self, context: RunContext) -> dict[str, Any]:
        """All that the result depends on, plain JSON."""

    @abstractmethod
    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        """Do it, write the record, and put into `state` the `outputs` (paths) and the `result` (a hash)."""

    def prepare(self, context: RunContext) -> None:  # noqa: B027  (most stages have nothing to load)
        """Load what must be there before the stage is marked as started: a failure leaves the old result."""

    def applies(self, context: RunContext) -> bool:
        """Whether the recipe asks for it."""
        return True

    def holds(self, context: RunContext) -> bool:
        """Whether what is there was made from the same."""
        return context.run.holds(self.name, self.inputs(context))

    def due(self, context: RunContext) -> bool:
        """Whether `run` would work. Raises CallError where it would refuse to."""
        return not self.holds(context)

    def time(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        """What it will take, as far as a few real steps and samples tell."""
        return (Expected(self.title, None),)

    def expected(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        """What it will take: what it took in this run before with the same settings, else `time`."""
        state = context.run.stage(self.name)
        if state["status"] == "done" and state.get("seconds") is not None:
            changed = context.run.changed(self.name, self.inputs(context))
            if not {key.split(".")[0] for key in changed} & set(self.settings):
                return (Expected(self.title, state["seconds"], before=True),)
        return self.time(context, timed)

    def run(self, context: RunContext, *, again: bool = False) -> bool:
        """Work where the stage does not hold, or `again` anyway. Returns whether there was work."""
        inputs = self.inputs(context)
        if context.run.holds(self.name, inputs) and not again:
            return False
        context.following.check()
        self.prepare(context)
        with context.following as following, context.run.working(self.name, inputs) as state:
            self.work(context, state)
            for record in (file for file in state["outputs"] if file.suffix == ".json"):
                following.record(self.name, record)
        return True
