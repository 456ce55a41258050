"""Serve: bundles behind HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niwaki.api.extras import needing

if TYPE_CHECKING:
    from niwaki.serving.server import Server

__all__ = ["serve", "server_of"]


def serve(
    bundles: str | Path | Sequence[str | Path],
    *,
    engine: str = "auto",
    keys: Iterable[str] = (),
    limits: dict[str, Any] | None = None,
    told: Callable[[str], None] = print,
    ab: str | None = None,
    ab_log: str | Path = "ab.jsonl",
    ab_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Answer requests with bundles until SIGTERM or SIGINT; what is being answered then is answered to its
    end.

    bundles:  paths, or `NAME=PATH`, or `NAME=PATH,engine=onnxruntime`
    engine:   of those that name none
    keys:     whoever calls must bring one of them
    limits:   what a request may ask (`niwaki.serving.settings.Limits`): `{"samples": 16}`
    told:     called with the address, once the port is taken
    ab:       a trial of two of them, `A:B` or `A:B:SHARE`: users are given A or B by a draw of their own
    ab_log:   where its requests and outcomes are written; an existing one goes on
    ab_settings: `level`, `margin`, `slow` as of `niwaki.serving.trial.plan.TrialPlan`
    settings: as of `niwaki.serving.settings.ServeSettings`: `host`, `port=8000`, `batch=16` …
    Raises CallError for wrong settings, NiwakiError for a bundle that cannot be served and a taken port.
    """
    server_of(
        bundles, engine=engine, keys=keys, limits=limits, ab=ab, ab_log=ab_log, ab_settings=ab_settings,
        **settings,
    ).run(told)  # fmt: skip


def server_of(
    bundles: str | Path | Sequence[str | Path],
    *,
    engine: str = "auto",
    keys: Iterable[str] = (),
    limits: dict[str, Any] | None = None,
    ab: str | None = None,
    ab_log: str | Path = "ab.jsonl",
    ab_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Server:
    """The same, made and not yet running: `run` in a thread, and `stop`, for tests and notebooks."""
    with needing("serving needs", "serve", "starlette", "uvicorn", "prometheus_client"):
        from niwaki.serving.server import Server
        from niwaki.serving.settings import BundlePlace, Limits, ServeSettings
        from niwaki.serving.trial.plan import TrialPlan
        from niwaki.serving.trial.trial import Trial
    several = [bundles] if isinstance(bundles, str | Path) else list(bundles)
    places = [BundlePlace.read(str(bundle), engine) for bundle in several]
    trial = None
    if ab is not None:
        plan = TrialPlan.read(ab, **(ab_settings or {}))
        plan.check([place.name for place in places])
        trial = partial(Trial, plan, Path(ab_log))
    return Server(places, ServeSettings(keys=tuple(keys), limits=Limits(**(limits or {})), **settings), trial)
