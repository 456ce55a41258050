"""Batches out of what many callers ask for: whoever comes while a batch is worked on is in the next one."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from niwaki.serving.problems import Problem

__all__ = ["Batcher", "Item", "Kind"]

_LATE = 60
"""Seconds that a caller is sent away for at most."""


class Kind(Hashable, Protocol):
    """What the items of one batch have in common: items of equal kinds may be worked on together."""

    @property
    def most(self) -> int:
        """Items of one batch at most."""

    def work(self, items: Sequence[Item]) -> Sequence[Any]:
        """A result for each item, or the exception that is its own. Called on the batcher's thread."""


@dataclass(eq=False)
class Item:
    """One thing to do, and who waits for it.

    answer: comes from the batch; whoever goes away cancels it
    """

    kind: Kind
    what: Any
    since: float
    answer: asyncio.Future[Any]

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more (true for one that is answered, too)."""
        return self.answer.done()


class Batcher:
    """A queue, and one thread that works it off: the oldest item says of which kind the next batch is.

    wait:    seconds that a batch waits for companions, where the one before it had more: a lonely caller
             never waits
    queue:   items that may wait
    observe: called with (items, seconds) of every batch
    """

    def __init__(
        self,
        name: str,
        *,
        wait: float = 0.002,
        queue: int = 256,
        observe: Callable[[int, float], None] = lambda items, seconds: None,
    ) -> None:
        self._wait, self._most, self._observe = wait, queue, observe
        self._waiting: dict[Kind, deque[Item]] = {}
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"niwaki-{name}")
        self._closing = False
        self._last = 1  # items of the batch before
        self._rate = 0.0  # items a second, lately
        self._busy = False
        self._calls = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def queued(self) -> int:
        """Items and calls that wait, without those that nobody waits for."""
        return self._calls + sum(not item.abandoned for line in self._waiting.values() for item in line)

    def submit(self, work: Sequence[tuple[Kind, Any]]) -> list[Item]:
        """Queue what belongs to one request, each with its kind.

        Raises Problem 429 where there is no room for all of it, and 503 while the server ends.
        """
        self._make_sure_of_room(len(work))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        items = [Item(kind, what, now, loop.create_future()) for kind, what in work]
        for item in items:
            self._waiting.setdefault(item.kind, deque()).append(item)
        self._arrived.set()
        return items

    async def call(self, function: Callable[[], Any]) -> Any:
        """What a function gives, called on the thread of the batches, between two of them."""
        self._make_sure_of_room(1)
        self._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        finally:
            self._calls -= 1

    def _make_sure_of_room(self, n: int) -> None:
        """Raises Problem as `submit` does."""
        if self._closing:
            raise Problem(503, "stopping", "the server is stopping", after=5)
        queued = self.queued
        if queued + n > self._most:
            rate = self._rate or 1.0
            after = min(_LATE, max(1, math.ceil(queued / rate)))
            raise Problem(429, "queue_full", f"{queued} samples wait already; try again in {after} s", after)

    async def close(self) -> None:
        """Work off what waits, and end."""
        self._closing = True
        while self.queued or self._busy:
            await asyncio.sleep(0.01)
        self._task.cancel()
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            kind = self._oldest()
            if kind is None:
                self._arrived.clear()
                continue
            await self._companions(kind)
            await self._work(kind, self._take(kind))

    def _oldest(self) -> Kind | None:
        """The kind of the item that waits longest; what nobody waits for is dropped."""
        for kind, line in list(self._waiting.items()):
            while line and line[0].abandoned:
                line.popleft()
            if not line:
                del self._waiting[kind]
        return min(self._waiting, key=lambda kind: self._waiting[kind][0].since, default=None)

    async def _companions(self, kind: Kind) -> None:
        """Wait until as many are there as were in the batch before, or the time is over."""
        wanted = min(kind.most, self._last)
        until = self._waiting[kind][0].since + self._wait
        while len(self._waiting[kind]) < wanted and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._wait / 4))

    def _take(self, kind: Kind) -> list[Item]:
        line, batch = self._waiting[kind], list[Item]()
        while line and len(batch) < kind.most:
            item = line.popleft()
            if not item.abandoned:
                batch.append(item)
        return batch

    async def _work(self, kind: Kind, batch: list[Item]) -> None:
        if not batch:
            return
        self._busy, began = True, time.monotonic()
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, kind.work, batch)
        except Exception as error:  # of the kind itself: it is everybody's
            results = [error] * len(batch)
        finally:
            self._busy = False
        seconds = time.monotonic() - began
        self._last = len(batch)
        self._rate += 0.2 * (len(batch) / max(seconds, 1e-6) - self._rate)
        self._observe(len(batch), seconds)
        for item, result in zip(batch, results, strict=True):
            if not item.answer.done():
                if isinstance(result, BaseException):
                    item.answer.set_exception(result)
                else:
                    item.answer.set_result(result)
