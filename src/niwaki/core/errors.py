"""What can go wrong, in one sentence each: the errors of `niwaki_runtime`, under niwaki's own roof."""

from __future__ import annotations

from niwaki_runtime.errors import BundleError, CallError, NiwakiError, first_line, nearest

__all__ = ["BundleError", "CallError", "NiwakiError", "NothingToDo", "first_line", "nearest"]


class NothingToDo(NiwakiError):
    """A step of a plan would leave the model as it is. The plan goes on and says so; a direct call fails."""
