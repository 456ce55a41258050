"""Studio: pages for people, on a port of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from niwaki.api.extras import needing

if TYPE_CHECKING:
    from niwaki.studio.studio import Studio

__all__ = ["studio", "studio_of"]


def studio(
    models: Sequence[str | Path],
    *,
    out: str | Path = "studio",
    host: str = "127.0.0.1",
    port: int = 8100,
    seed: int = 0,
    checks: float = 0.1,
    goal: int = 0,
    told: Callable[[str], None] = print,
) -> None:
    """Serve pages about models and runs to a browser, until SIGTERM or SIGINT: samples, ways through the
    noise, coverage and damage, blind pairs, runs beside each other, searches.

    models: runs, folders of runs, bundles or models, as PATH or NAME=PATH; blind pairs need two
    out:    folder of raters' answers (`answers.jsonl`) and of the samples that were shown to them
    host:   another than this machine's own address lets others in who have the whole address
    seed:   of the samples that raters see and of the order of questions
    checks: share of planted questions, by which raters' reliability is measured
    goal:   answers that each rater is asked for; 0: as many as they like
    told:   called with the address, and with that for raters where other machines reach the pages
    Raises CallError for what is no model and no run, NiwakiError for a broken one and a taken port.
    """
    studio_of(models, out=out, host=host, port=port, seed=seed, checks=checks, goal=goal).run(told)


def studio_of(
    models: Sequence[str | Path],
    *,
    out: str | Path = "studio",
    host: str = "127.0.0.1",
    port: int = 8100,
    seed: int = 0,
    checks: float = 0.1,
    goal: int = 0,
) -> Studio:
    """The same, made and not yet running: `run` in a thread, and `stop`."""
    with needing("the studio needs", "serve", "starlette", "uvicorn"):
        from niwaki.studio.sources import open_sources
        from niwaki.studio.studio import Studio
    sources = open_sources(models, Path(out), seed=seed, checks=checks, goal=goal)
    return Studio(sources, host, port)
