"""How far the samples of a form may be from the bundle's, and whether they are that near."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from niwaki.deployment.static_graph.network import Network

__all__ = ["STEPS", "TOLERANCE", "agrees", "coarsest_step", "difference", "tolerance_of"]

TOLERANCE = 1e-4
"""Largest difference from an engine in float32, relative to the largest value, at least 1: sums in another
order, and other functions of libm."""
STEPS = 1.0
"""Of a quantized bundle: how many steps of its coarsest quantizer a value may differ, and on a mean 1/100 of
that: one activation that falls on the other side of a step moves all that follow."""


def coarsest_step(network: Network) -> float:
    """By how much the coarsest quantizer of activations counts; 0 where none is rounded. Weights that are
    stored as integers mean exactly what they mean, and need none."""
    rounded = (step for step in network.steps if step.op == "QuantizeLinear")
    return max((float(network.constants[step.inputs[1]].max()) for step in rounded), default=0.0)


def tolerance_of(step: float) -> float:
    """step: of the coarsest quantizer; 0 where there is none"""
    return STEPS * step if step else TOLERANCE


def difference(wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """`max` and `mean`, relative to the largest value, at least 1; what is not finite on one side only is
    infinitely wrong."""
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    off = np.abs(wanted.astype(np.float64) - found) / scale
    off = np.where(np.isfinite(off), off, np.inf)
    return {"max": float(off.max(initial=0.0)), "mean": float(off.mean())}


def agrees(errors: Mapping[str, float], step: float) -> bool:
    """errors: as of `difference`"""
    tolerance = tolerance_of(step)
    return errors["max"] <= tolerance and (not step or errors["mean"] <= tolerance / 100.0)
