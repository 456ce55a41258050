"""A studio on a free port of this machine, and who asks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from niwaki.api.studio import studio_of


class Open:
    """A studio in a thread."""

    def __init__(self, *models: Any, **settings: Any) -> None:
        self.studio = studio_of([str(one) for one in models], port=0, **settings)
        self.address = self.studio.address
        self._thread = threading.Thread(target=self.studio.run)
        self._thread.start()
        self.client = httpx2.Client(base_url=self.address.partition("?")[0], timeout=60)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.client.get("/rate")
                return
            except httpx2.TransportError:  # it does not listen yet
                time.sleep(0.02)
        raise AssertionError("the studio does not answer")

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)

    def close(self) -> None:
        self.client.close()
        self.studio.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def opened() -> Iterator[Callable[..., Open]]:
    with ExitStack() as stack:

        def start(*models: Any, **settings: Any) -> Open:
            one = Open(*models, **settings)
            stack.callback(one.close)
            return one

        yield start
