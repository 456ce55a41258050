"""How long the work will take, said before it begins: a few real steps and samples are timed, nothing is
guessed."""

from __future__ import annotations

from niwaki.workflow.estimates.expected import Expected, told
from niwaki.workflow.estimates.timed import Timed

__all__ = ["Expected", "Timed", "told"]
