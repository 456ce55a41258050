"""Clients on loopback, each with a connection of its own that asks again as soon as it is answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

__all__ = ["answer_of", "ask_for"]

Body = Callable[[int], dict[str, Any]]
"""From the number of a request to what it asks."""


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> bytes:
    """One answer. Raises RuntimeError where it is no 200."""
    head = ("Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", "", "")
    writer.write("\r\n".join((f"POST {path} HTTP/1.1", *head)).encode() + body)
    answered = await reader.readuntil(b"\r\n\r\n")
    lines = answered.decode("latin1").lower().split("\r\n")
    size = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    content = await reader.readexactly(size)
    if " 200 " not in lines[0]:
        raise RuntimeError(f"{lines[0]}: {content[:200]!r}")
    return content


async def _load(
    address: str, path: str, body: Body, clients: int, seconds: float
) -> tuple[list[float], float]:
    place, numbers = urlsplit(address), iter(range(1 << 40))
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            while time.perf_counter() < end:
                asked = json.dumps(body(next(numbers))).encode()
                began = time.perf_counter()
                await _one(reader, writer, path, asked)
                found.append(time.perf_counter() - began)
        finally:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return found, time.perf_counter() - began


def ask_for(address: str, path: str, body: Body, clients: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each answer, and seconds in all, of so many clients."""
    return asyncio.run(_load(address, path, body, clients, seconds))


def answer_of(address: str, path: str, body: dict[str, Any]) -> Any:
    """The answer to one request."""

    async def ask() -> bytes:
        place = urlsplit(address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            return await _one(reader, writer, path, json.dumps(body).encode())
        finally:
            writer.close()

    return json.loads(asyncio.run(ask()))
