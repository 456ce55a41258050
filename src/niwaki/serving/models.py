"""The models of a server by name, and the looks at their files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from niwaki.serving.metrics import Metrics
from niwaki.serving.problems import Problem
from niwaki.serving.served import Served
from niwaki.serving.settings import BundlePlace, ServeSettings
from niwaki_runtime.errors import CallError, NiwakiError, nearest

__all__ = ["Models"]

_log = logging.getLogger("niwaki.serving")


class Models:
    """Bundles, each under a name."""

    def __init__(self, places: Sequence[BundlePlace], settings: ServeSettings, metrics: Metrics) -> None:
        """Loads them all. Raises CallError for two of one name, NiwakiError for one that cannot be served."""
        names = [place.name for place in places]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise CallError(f"two bundles are called '{twice}'; name them, as small={twice}.niwaki")
        if not places:
            raise CallError("name a bundle to serve")
        self._settings = settings
        self._served = {place.name: Served(place, settings, metrics) for place in places}
        self._tasks: list[asyncio.Task[Any]] = []

    def __iter__(self) -> Any:
        return iter(self._served.values())

    @property
    def ready(self) -> bool:
        return all(one.ready for one in self)

    def find(self, name: Any) -> Served:
        """The model of that name; the first one where none is named. Raises Problem 404 for another."""
        if name is None or name == "":
            return next(iter(self))
        if not isinstance(name, str) or name not in self._served:
            raise Problem(
                404,
                "model_not_found",
                f"there is no model '{name!s:.80}'; {nearest(str(name), self._served)}",
            )
        return self._served[name]

    async def start(self) -> None:
        """Warm all models up, one after another, while the server answers already that it is not ready."""
        self._tasks.append(asyncio.create_task(self._begin()))

    async def close(self) -> None:
        """Work off what waits."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*(one.close() for one in self))

    async def _begin(self) -> None:
        for one in self:
            try:
                await one.start()
            except Exception as error:  # the others are served all the same; /ready tells
                one.failure = str(error)
                _log.error("%s cannot be served: %s", one.name, error)
        while self._settings.watch:
            await asyncio.sleep(self._settings.watch)
            for one in self:
                with suppress(NiwakiError):  # `replace` has logged it
                    await one.replace_if_changed()
