"""The libraries' bars and hints speak to people who call them; what matters is raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["quiet"]

_LOGGERS = ("torchao", "torch.utils._pytree")
"""Of libraries that diffusers imports where they are installed."""


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings from diffusers, transformers and what they import, inside the block.

    Raises ImportError where diffusers is not installed.
    """
    with ExitStack() as after:
        for logger in map(logging.getLogger, _LOGGERS):
            after.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        import diffusers.utils.logging as theirs

        libraries: list[Any] = [theirs]
        try:
            import transformers.utils.logging as others

            libraries.append(others)
        except ImportError:
            pass  # only text encoders need it
        for library in libraries:
            after.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity(logging.ERROR)
        if len(libraries) == 2 and libraries[1].is_progress_bar_enabled():
            after.callback(libraries[1].enable_progress_bar)
            libraries[1].disable_progress_bar()
        yield
