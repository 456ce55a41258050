"""niwaki trains generative models, measures what they can do, makes them small, and proves that nothing was lost.

>>> import niwaki
>>> run = niwaki.run("digits-gan")  # doctest: +SKIP
>>> niwaki.load("runs/digits-gan/digits-gan.niwaki").sample(16, seed=0).shape  # doctest: +SKIP
(16, 1, 8, 8)

Names are imported when they are first used: `import niwaki` itself imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "adapt": "niwaki.adapters",
    "compress": "niwaki.workflow",
    "evaluate": "niwaki.workflow",
    "export": "niwaki.workflow",
    "load": "niwaki.workflow",
    "load_recipe": "niwaki.recipe",
    "report": "niwaki.workflow",
    "run": "niwaki.workflow",
    "sample": "niwaki.workflow",
    "train": "niwaki.workflow",
    "CallError": "niwaki_runtime.errors",
    "NiwakiError": "niwaki_runtime.errors",
}

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604

if TYPE_CHECKING:
    from niwaki_runtime.errors import CallError, NiwakiError

    from niwaki.adapters import adapt
    from niwaki.recipe import load_recipe
    from niwaki.workflow import compress, evaluate, export, load, report, run, sample, train


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'niwaki' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
