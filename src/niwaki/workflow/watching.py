"""Who is told of progress: a terminal, a notebook, a log, or nobody."""

from __future__ import annotations

import sys

from niwaki.workflow.notebook.progress import InCell, in_notebook
from niwaki.workflow.progress import Drawn, Plain

__all__ = ["Watched", "watched"]

Watched = Drawn | Plain | InCell


def watched(asked: bool | None) -> Watched | None:
    """What shows the progress here.

    asked: True shows it wherever this runs (a line now and then where nothing can be drawn), False nowhere,
           None where somebody looks: on a terminal and in a notebook
    """
    if asked is False:
        return None
    if in_notebook():
        return InCell()
    if sys.stderr.isatty():
        return Drawn()
    return Plain() if asked else None
