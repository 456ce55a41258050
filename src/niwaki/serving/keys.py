"""Who may call: keys, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from niwaki.serving.problems import Problem
from niwaki_runtime.errors import CallError

__all__ = ["KeyCheck", "read_keys"]

VARIABLE = "NIWAKI_API_KEYS"
OPEN = ("/health", "/ready")
"""Paths that a supervisor asks, which has no key."""
_SHORTEST = 16


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The keys in a file, one a line (`#` begins a remark), and in the variable NIWAKI_API_KEYS, with commas.

    Raises CallError for a file without any, or that cannot be read, and for a key that is too short.
    """
    named = os.environ.get(VARIABLE, "").split(",")
    if file is not None:
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CallError(f"the keys in {file} cannot be read: {error}") from None
        listed = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not listed:
            raise CallError(f"{file} holds no key; write one on each line")
        named += listed
    keys = tuple(dict.fromkeys(key.strip() for key in named if key.strip()))
    if any(len(key) < _SHORTEST or not key.isascii() for key in keys):
        raise CallError(
            f"a key has at least {_SHORTEST} characters of ASCII; `openssl rand -hex 32` makes one"
        )
    return keys


class KeyCheck:
    """Lets through who brings `Authorization: Bearer KEY`; without keys everybody."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._digests or scope["path"] in OPEN or self._known(scope):
            await self._app(scope, receive, send)
            return
        problem = Problem(401, "invalid_api_key", "a key is needed: send 'Authorization: Bearer KEY'")
        await problem.response()(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        brought = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, key = brought.partition(b" ")
        digest = _digest(key.strip())
        # All are compared, so that the time says neither which one it is nor how much of it is right.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return kind.lower() == b"bearer" and any(matches)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
