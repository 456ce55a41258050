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
    """Ask people which of two samples is better, until SIGTERM or SIGINT.

    models: two or more runs, bundles or models, as PATH or NAME=PATH
    out:    folder of the answers (`answers.jsonl`) and of the samples that were shown
    host:   another than this machine's own address lets others in who have the whole address
    seed:   of the samples and of the order of questions
    checks: share of planted questions, by which raters' reliability is measured
    goal:   answers that each rater is asked for; 0: as many as they like
    told:   called with the address
    Raises CallError for models that cannot be compared, NiwakiError for a taken port.
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
        from niwaki.studio.contestants import open_contestants
        from niwaki.studio.pages.rate import Rate
        from niwaki.studio.studio import Studio
    folder = Path(out)
    contestants = open_contestants(models, folder, seed=seed)
    return Studio([Rate(contestants, folder, checks=checks, goal=goal)], host, port)
