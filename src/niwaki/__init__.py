"""niwaki trains generative models, measures what they can do, makes them small, and proves that nothing was
lost.

>>> import niwaki
>>> run = niwaki.run("digits-gan")  # doctest: +SKIP
>>> niwaki.load("runs/digits-gan/digits-gan.niwaki").sample(16, seed=0).shape  # doctest: +SKIP
(16, 1, 8, 8)

Names are imported when they are first used: `import niwaki` itself imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from niwaki.core.version import __version__

_WHERE = {
    "CallError": "niwaki_runtime.errors",
    "CompressConfig": "niwaki.compression",
    "DataConfig": "niwaki.data",
    "EvaluateConfig": "niwaki.evaluation",
    "ExportConfig": "niwaki.recipe",
    "NiwakiError": "niwaki_runtime.errors",
    "Recipe": "niwaki.recipe",
    "TrainConfig": "niwaki.training",
    "TuneConfig": "niwaki.recipe",
    "adapt": "niwaki.api.adapt",
    "adapt_language_model": "niwaki.api.adapt",
    "adapt_pipeline": "niwaki.api.adapt",
    "compare": "niwaki.api.compare",
    "compress": "niwaki.api.compress",
    "detect": "niwaki.api.detect",
    "estimate": "niwaki.api.estimate",
    "evaluate": "niwaki.api.evaluate",
    "export": "niwaki.api.export",
    "from_pretrained": "niwaki.api.hub",
    "load": "niwaki.workflow.load",
    "load_recipe": "niwaki.recipe",
    "preferences": "niwaki.api.preferences",
    "push_to_hub": "niwaki.api.hub",
    "retrain": "niwaki.api.retrain",
    "run": "niwaki.api.run",
    "runs": "niwaki.api.runs",
    "sample": "niwaki.api.sample",
    "save_pretrained": "niwaki.api.hub",
    "search": "niwaki.api.search",
    "serve": "niwaki.api.serve",
    "studio": "niwaki.api.studio",
    "train": "niwaki.api.train",
    "trial": "niwaki.api.trial",
    "tune": "niwaki.api.tune",
    "use": "niwaki.api.use",
    "watch": "niwaki.api.watch",
}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from niwaki.api.adapt import adapt as adapt
    from niwaki.api.adapt import adapt_language_model as adapt_language_model
    from niwaki.api.adapt import adapt_pipeline as adapt_pipeline
    from niwaki.api.compare import compare as compare
    from niwaki.api.compress import compress as compress
    from niwaki.api.detect import detect as detect
    from niwaki.api.estimate import estimate as estimate
    from niwaki.api.evaluate import evaluate as evaluate
    from niwaki.api.export import export as export
    from niwaki.api.hub import from_pretrained as from_pretrained
    from niwaki.api.hub import push_to_hub as push_to_hub
    from niwaki.api.hub import save_pretrained as save_pretrained
    from niwaki.api.preferences import preferences as preferences
    from niwaki.api.retrain import retrain as retrain
    from niwaki.api.run import run as run
    from niwaki.api.runs import runs as runs
    from niwaki.api.sample import sample as sample
    from niwaki.api.search import search as search
    from niwaki.api.serve import serve as serve
    from niwaki.api.studio import studio as studio
    from niwaki.api.train import train as train
    from niwaki.api.trial import trial as trial
    from niwaki.api.tune import tune as tune
    from niwaki.api.use import use as use
    from niwaki.api.watch import watch as watch
    from niwaki.compression import CompressConfig as CompressConfig
    from niwaki.data import DataConfig as DataConfig
    from niwaki.evaluation import EvaluateConfig as EvaluateConfig
    from niwaki.recipe import ExportConfig as ExportConfig
    from niwaki.recipe import Recipe as Recipe
    from niwaki.recipe import TuneConfig as TuneConfig
    from niwaki.recipe import load_recipe as load_recipe
    from niwaki.training import TrainConfig as TrainConfig
    from niwaki.workflow.load import load as load
    from niwaki_runtime.errors import CallError as CallError
    from niwaki_runtime.errors import NiwakiError as NiwakiError


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'niwaki' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
