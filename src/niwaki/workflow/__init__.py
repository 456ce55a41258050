"""The legs of a run. The command line and the Python API are two faces of these functions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "LEGS": "rundir",
    "Quiet": "reporter",
    "Reporter": "reporter",
    "RunDirectory": "rundir",
    "Samples": "sample",
    "catalogue": "catalogue",
    "compress": "compress",
    "doctor": "doctor",
    "evaluate": "evaluate",
    "export": "export",
    "load": "load",
    "report": "report",
    "run": "run",
    "sample": "sample",
    "summary": "summary",
    "train": "train",
}

__all__ = [
    "LEGS",
    "Quiet",
    "Reporter",
    "RunDirectory",
    "Samples",
    "catalogue",
    "compress",
    "doctor",
    "evaluate",
    "export",
    "load",
    "report",
    "run",
    "sample",
    "summary",
    "train",
]

if TYPE_CHECKING:
    from niwaki.workflow.catalogue import catalogue
    from niwaki.workflow.compress import compress
    from niwaki.workflow.doctor import doctor
    from niwaki.workflow.evaluate import evaluate
    from niwaki.workflow.export import export
    from niwaki.workflow.load import load
    from niwaki.workflow.report import report
    from niwaki.workflow.reporter import Quiet, Reporter
    from niwaki.workflow.run import run
    from niwaki.workflow.rundir import LEGS, RunDirectory
    from niwaki.workflow.sample import Samples, sample
    from niwaki.workflow.summary import summary
    from niwaki.workflow.train import train


def __getattr__(name: str) -> Any:
    """A verb brings in only what it needs: `niwaki models` loads no metrics."""
    if name not in _WHERE:
        raise AttributeError(f"module 'niwaki.workflow' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"niwaki.workflow.{_WHERE[name]}"), name)
    globals()[name] = value  # importing the submodule has put the module under this name; the function takes it
    return value
