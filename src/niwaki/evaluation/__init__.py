"""Evaluation: fidelity and diversity apart, single samples, copies of the training set, and verdicts."""

from __future__ import annotations

from niwaki.evaluation.compare import Comparison, compare
from niwaki.evaluation.config import EvaluateConfig
from niwaki.evaluation.evaluate import Evaluation, evaluate
from niwaki.evaluation.frechet import frechet_distance
from niwaki.evaluation.kernel import kernel_distance
from niwaki.evaluation.manifold import Manifold, manifold
from niwaki.evaluation.result import Result
from niwaki.evaluation.verdict import Verdict

__all__ = [
    "Comparison",
    "EvaluateConfig",
    "Evaluation",
    "Manifold",
    "Result",
    "Verdict",
    "compare",
    "evaluate",
    "frechet_distance",
    "kernel_distance",
    "manifold",
]
