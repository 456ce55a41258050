"""States of a plan that may ship as they are, set aside before more training makes others of them.

A training begins anew at its full rate: a few steps of it can harm a model that had lost next to nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from niwaki.workflow.searching.candidate import NEAR, Candidate
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import linked
from niwaki_runtime.unfinished import remove_directory

__all__ = ["take_snapshot"]


def take_snapshot(search: Search, candidate: Candidate) -> None:
    """Set a candidate aside as it is, if it keeps to the budget and may have lost nothing. Of each plan the
    best state stays: a bundle that was shown to have lost nothing, else the one that seems to have lost
    least."""
    if not candidate.losses or candidate.worst >= NEAR or not candidate.fits(search.limits):
        return
    found = replace(candidate, snapshot=True)
    known = search.candidates.get(found.name)
    if known is not None and _order(known) <= _order(found):
        return
    place, source = search.directory(found), search.directory(candidate)
    if place.exists():
        remove_directory(place)
    if (source / "steps").is_dir():
        shutil.copytree(source / "steps", place / "steps", copy_function=linked)
    search.enter(found)


def _order(candidate: Candidate) -> tuple[bool, float]:
    """The better, the smaller."""
    proven = candidate.bundled and candidate.lossless
    return not proven, candidate.sure if proven else candidate.worst
