"""Evaluation: fidelity and diversity apart, single samples, copies of the training set, and verdicts."""

from __future__ import annotations

from niwaki.evaluation.config import EvaluateConfig
from niwaki.evaluation.equivalence.calibration import Calibration, calibrated
from niwaki.evaluation.equivalence.compare import Comparison, compare
from niwaki.evaluation.equivalence.shared_damage import SharedDamage, damage_in_common
from niwaki.evaluation.equivalence.text import TextComparison, compare_text
from niwaki.evaluation.equivalence.text_margins import text_margins
from niwaki.evaluation.equivalence.verdict import Verdict
from niwaki.evaluation.evaluate import Evaluation, evaluate
from niwaki.evaluation.extractor_checks.fitness import Fitness
from niwaki.evaluation.extractor_checks.gate import Gate, memorisation_gate
from niwaki.evaluation.extractor_checks.ladders import check_extractor
from niwaki.evaluation.feature_sets import FeatureSets
from niwaki.evaluation.measures import DEFAULT as DEFAULT_METRICS
from niwaki.evaluation.measures import Measure, Measured, axes, check_metrics, measure, measures
from niwaki.evaluation.memorization.authenticity import authenticity
from niwaki.evaluation.memorization.copying_test import CopyingTest, copying_test
from niwaki.evaluation.memorization.mifid import MiFID, mifid
from niwaki.evaluation.metrics.alpha_beta import AlphaBeta, alpha_beta
from niwaki.evaluation.metrics.bias import AttributeShift, attribute_shift
from niwaki.evaluation.metrics.bits_per_dim import bits_per_dim
from niwaki.evaluation.metrics.clusters import ClusterCoverage, coverage_per_cluster
from niwaki.evaluation.metrics.cmmd import cmmd
from niwaki.evaluation.metrics.feature_likelihood import FeatureLikelihood, feature_likelihood_divergence
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.frechet_infinity import FrechetInfinity, frechet_distance_infinity
from niwaki.evaluation.metrics.gram import GramMetrics, gram_metrics
from niwaki.evaluation.metrics.inception_score import InceptionScore, inception_score
from niwaki.evaluation.metrics.kernel import KernelTest, kernel_distance, kernel_test
from niwaki.evaluation.metrics.lsh import HashedPrecisionRecall, lsh_precision_recall
from niwaki.evaluation.metrics.manifold import Manifold, manifold
from niwaki.evaluation.metrics.mind import mind
from niwaki.evaluation.metrics.moments import Moments, frechet_from_moments
from niwaki.evaluation.metrics.ms_ssim import ms_ssim_diversity
from niwaki.evaluation.metrics.ngrams import distinct_n, repetition
from niwaki.evaluation.metrics.path_length import path_length
from niwaki.evaluation.metrics.support import Support, support
from niwaki.evaluation.metrics.tstr import SyntheticTraining, train_on_synthetic_test_on_real
from niwaki.evaluation.metrics.vendi import vendi_score
from niwaki.evaluation.pairwise.kernel_sums import RBF, Polynomial
from niwaki.evaluation.statistics.result import Result

__all__ = [
    "DEFAULT_METRICS",
    "RBF",
    "AlphaBeta",
    "AttributeShift",
    "Calibration",
    "ClusterCoverage",
    "Comparison",
    "CopyingTest",
    "EvaluateConfig",
    "Evaluation",
    "FeatureLikelihood",
    "FeatureSets",
    "Fitness",
    "FrechetInfinity",
    "Gate",
    "GramMetrics",
    "HashedPrecisionRecall",
    "InceptionScore",
    "KernelTest",
    "Manifold",
    "Measure",
    "Measured",
    "MiFID",
    "Moments",
    "Polynomial",
    "Result",
    "SharedDamage",
    "Support",
    "SyntheticTraining",
    "TextComparison",
    "Verdict",
    "alpha_beta",
    "attribute_shift",
    "authenticity",
    "axes",
    "bits_per_dim",
    "calibrated",
    "check_extractor",
    "check_metrics",
    "cmmd",
    "compare",
    "compare_text",
    "copying_test",
    "coverage_per_cluster",
    "damage_in_common",
    "distinct_n",
    "evaluate",
    "feature_likelihood_divergence",
    "frechet_distance",
    "frechet_distance_infinity",
    "frechet_from_moments",
    "gram_metrics",
    "inception_score",
    "kernel_distance",
    "kernel_test",
    "lsh_precision_recall",
    "manifold",
    "measure",
    "measures",
    "memorisation_gate",
    "mifid",
    "mind",
    "ms_ssim_diversity",
    "path_length",
    "repetition",
    "support",
    "text_margins",
    "train_on_synthetic_test_on_real",
    "vendi_score",
]
