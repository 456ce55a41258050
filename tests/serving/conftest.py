"""Servers on a free port of this machine, each for the tests of one file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from niwaki.api.serve import server_of
from niwaki.serving.server import Server


class Running:
    """A server in a thread, and who asks it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._thread = threading.Thread(target=server.run)
        self._thread.start()
        self.client = httpx2.Client(base_url=server.address, timeout=60)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if self.client.get("/ready").status_code == 200:
                    return
            except httpx2.TransportError:  # it does not listen yet
                pass
            time.sleep(0.02)
        raise AssertionError("the server did not become ready")

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def serving() -> Iterator[Callable[..., Running]]:
    """`serving(paths, **settings)`: a server that is ready; it ends with the tests of the file."""
    with ExitStack() as stack:

        def start(bundles: str | Path | list[Any], **settings: Any) -> Running:
            running = Running(server_of(bundles, port=0, **{"watch": 0, **settings}))
            stack.callback(running.close)
            return running

        yield start
