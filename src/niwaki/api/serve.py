"""Serve: bundles behind HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niwaki_runtime.errors import NiwakiError

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
    **settings: Any,
) -> None:
    """Answer requests with bundles until SIGTERM or SIGINT; what is being answered then is answered to its
    end.

    bundles:  paths, or `NAME=PATH`, or `NAME=PATH,engine=onnxruntime`
    engine:   of those that name none
    keys:     whoever calls must bring one of them
    limits:   what a request may ask (`niwaki.serving.settings.Limits`): `{"samples": 16}`
    told:     called with the address, once the port is taken
    settings: as of `niwaki.serving.settings.ServeSettings`: `host`, `port=8000`, `batch=16` …
    Raises CallError for wrong settings, NiwakiError for a bundle that cannot be served and a taken port.
    """
    server_of(bundles, engine=engine, keys=keys, limits=limits, **settings).run(told)


def server_of(
    bundles: str | Path | Sequence[str | Path],
    *,
    engine: str = "auto",
    keys: Iterable[str] = (),
    limits: dict[str, Any] | None = None,
    **settings: Any,
) -> Server:
    """The same, made and not yet running: `run` in a thread, and `stop`, for tests and notebooks."""
    try:
        from niwaki.serving.server import Server
        from niwaki.serving.settings import BundlePlace, Limits, ServeSettings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "prometheus_client"):
            raise
        raise NiwakiError(f"serving needs {error.name}; pip install 'niwaki[serve]'") from None
    several = [bundles] if isinstance(bundles, str | Path) else list(bundles)
    places = [BundlePlace.read(str(bundle), engine) for bundle in several]
    return Server(places, ServeSettings(keys=tuple(keys), limits=Limits(**(limits or {})), **settings))
