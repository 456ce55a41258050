"""The libraries' bars and hints speak to people who call them; what matters is raised."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module

from niwaki.core import hub_folder

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
        after.enter_context(hub_folder.quiet(import_module("diffusers"), logging.ERROR))
        with suppress(ImportError):  # only text encoders need it
            after.enter_context(hub_folder.quiet(import_module("transformers"), logging.ERROR))
        yield
