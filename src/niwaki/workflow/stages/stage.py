"""What a stage is: its inputs say whether it must work, its work leaves one record and files of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from niwaki.workflow.run_context import RunContext

__all__ = ["Stage"]


class Stage(ABC):
    """One stage of a run."""

    name: ClassVar[str]

    @abstractmethod
    def inputs(self, context: RunContext) -> dict[str, Any]:
        """All that the result depends on, plain JSON."""

    @abstractmethod
    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        """Do it, write the record, and put into `state` the `outputs` (paths) and the `result` (a hash)."""

    def prepare(self, context: RunContext) -> None:  # noqa: B027  (most stages have nothing to load)
        """Load what must be there before the stage is marked as started: a failure leaves the old result."""

    def holds(self, context: RunContext) -> bool:
        """Whether what is there was made from the same."""
        return context.run.holds(self.name, self.inputs(context))

    def run(self, context: RunContext, *, again: bool = False) -> bool:
        """Work where the stage does not hold, or `again` anyway. Returns whether there was work."""
        inputs = self.inputs(context)
        if context.run.holds(self.name, inputs) and not again:
            return False
        self.prepare(context)
        with context.run.working(self.name, inputs) as state:
            self.work(context, state)
        return True
