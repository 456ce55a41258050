"""NNCF without its bars, its log lines and its telemetry."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

__all__ = ["quiet_nncf"]


def _offline() -> Any:
    """The module `nncf`, its telemetry a stub: nothing here may reach for a network."""
    if "nncf" not in sys.modules:
        held = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # NNCF then makes a stub of its own
        try:
            nncf = importlib.import_module("nncf")
        finally:
            del sys.modules["openvino_telemetry"]
            if held is not None:
                sys.modules["openvino_telemetry"] = held
    else:  # somebody was here before
        nncf = importlib.import_module("nncf")
        importlib.import_module("nncf.telemetry.decorator").telemetry = MagicMock()  # type: ignore[attr-defined]
    return nncf


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """The module `nncf`, silent and offline. Its bars write to stdout, which in the block is nowhere."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nncf = _offline()
        loggers.append(logging.getLogger("nncf"))
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield nncf
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
