"""Converters write for their own developers: to standard output, by logging, as warnings."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from niwaki_runtime.errors import first_line

__all__ = ["first_sentence", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of it below errors."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def first_sentence(error: Exception) -> str:
    """The first line of what it began with."""
    cause: BaseException = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    return first_line(cause)
