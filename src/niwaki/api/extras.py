"""Libraries that only some verbs stand on, named where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from niwaki_runtime.errors import NiwakiError

__all__ = ["needing"]


@contextmanager
def needing(who: str, extra: str, *modules: str) -> Iterator[None]:
    """Imports within it: where one of `modules` is missing, NiwakiError says so, and which extra brings it.

    who: the beginning of the sentence, `serving needs`
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in modules:
            raise
        raise NiwakiError(f"{who} {error.name}; pip install 'niwaki[{extra}]'") from None
