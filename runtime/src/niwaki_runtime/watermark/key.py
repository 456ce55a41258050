"""The secret of a watermark: 256 random bits in a file that its owner alone reads."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from niwaki_runtime.errors import CallError, NiwakiError

__all__ = ["Key", "new_key", "read_key"]

_BYTES = 32
_HEAD = "niwaki-watermark-key-1 "


@dataclass(frozen=True)
class Key:
    """A watermark's key. It is never part of its own text, so that no log and no record holds it."""

    secret: bytes = field(repr=False)

    def seed(self, label: str, *numbers: int) -> int:
        """64 bits for a purpose: HMAC-SHA256 of its name and numbers."""
        words = b"".join(int(n).to_bytes(8, "little", signed=True) for n in numbers)
        digest = hmac.digest(self.secret, label.encode() + b"\0" + words, "sha256")
        return int.from_bytes(digest[:8], "little")

    def decoy(self, i: int) -> Key:
        """Another key, of which nothing was marked: what chance alone gives is seen with it."""
        return Key(hmac.digest(self.secret, b"decoy\0" + i.to_bytes(8, "little"), "sha256"))

    def name(self) -> str:
        """Eight hexadecimal digits that tell keys apart and do not tell the key."""
        return hashlib.sha256(b"name\0" + self.secret).hexdigest()[:8]


def new_key(path: str | Path) -> Key:
    """Write a random key, readable by its owner alone. Raises CallError where there is a file already."""
    path, secret = Path(path), secrets.token_bytes(_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CallError(
            f"{path} is there already, and what it marked could not be detected without it; name another file"
        ) from None
    except OSError as error:
        raise NiwakiError(f"{path} could not be written: {error.strerror or error}") from error
    with os.fdopen(place, "w", encoding="ascii") as file:
        file.write(f"{_HEAD}{secret.hex()}\n")
    return Key(secret)


def read_key(path: str | Path) -> Key:
    """Raises CallError for a file that cannot be read or is no key; what it holds is never quoted."""
    try:
        text = Path(path).read_text("ascii")
    except OSError as error:
        raise CallError(f"the key {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        text = ""
    digits = text.removeprefix(_HEAD).strip()
    if not text.startswith(_HEAD) or len(digits) != 2 * _BYTES or not set(digits) <= set("0123456789abcdef"):
        raise CallError(f"{path} is no watermark key; `niwaki detect --new-key FILE` makes one")
    return Key(bytes.fromhex(digits))
