"""An application on one port of this machine: it listens, and ends well."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from niwaki_runtime.errors import NiwakiError

__all__ = ["Listener"]


class Listener:
    """A port that is taken, and what answers there.

    address: where it listens
    """

    def __init__(self, host: str, port: int) -> None:
        """Raises NiwakiError for a taken port."""
        self._socket = _listening(host, port)
        named = f"[{host}]" if ":" in host else host
        self.address = f"http://{named}:{self._socket.getsockname()[1]}"
        self._server: _Uvicorn | None = None

    def answer_with(self, app: ASGIApp, grace: float) -> None:
        """app: what answers; grace: seconds in which running requests may end after a signal"""
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=max(1, round(grace)),
                server_header=False,
            )
        )

    def run(self, told: Callable[[str], None] = lambda address: None) -> None:
        """Serve until SIGTERM or SIGINT, or `stop`: what is being answered then is answered to its end."""
        assert self._server is not None
        self._server.told = lambda: told(self.address)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def stop(self) -> None:
        """End, from any thread."""
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        self._socket.close()


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
    # The protocol is named, so that asyncio sends small answers at once (TCP_NODELAY): else 40 ms are lost.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise NiwakiError(
            f"{host}:{port} cannot be listened to: {error.strerror or error}; choose --port"
        ) from None
    return taken
