"""The server: it listens, and ends well."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from niwaki.serving.app import application
from niwaki.serving.metrics import Metrics
from niwaki.serving.models import Models
from niwaki.serving.service import Service
from niwaki.serving.settings import BundlePlace, ServeSettings
from niwaki_runtime.errors import NiwakiError

__all__ = ["Server"]


class Server:
    """Bundles on one port of this machine.

    address: where it listens, once it is made: the port is taken by then
    """

    def __init__(self, places: Sequence[BundlePlace], settings: ServeSettings) -> None:
        """Loads the bundles. Raises NiwakiError for one that cannot be served, and for a taken port."""
        metrics = Metrics()
        self._socket = _listening(settings.host, settings.port)
        try:
            self.service = Service(Models(places, settings, metrics), metrics, settings)
        except BaseException:
            self._socket.close()
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            application(self.service), log_config=None, access_log=False, lifespan="on",
            timeout_graceful_shutdown=max(1, round(settings.grace)), server_header=False,
        )  # fmt: skip
        self._server = _Uvicorn(config)

    def run(self, told: Callable[[str], None] = lambda address: None) -> None:
        """Serve until SIGTERM or SIGINT, or `stop`: what is being answered then is answered to its end."""
        self._server.told = lambda: told(self.address)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End, from any thread."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Tells when it listens, and ends with status 0 after a signal: that is how a service is stopped."""

    told: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.told()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[Any, Any] = {
            s: signal.signal(s, self.handle_exit) for s in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise NiwakiError(
            f"{host}:{port} cannot be listened to: {error.strerror or error}; choose --port"
        ) from None
    return taken
