"""Seeds that never meet: samples for evaluation are drawn from seeds below 2³²."""

from __future__ import annotations

__all__ = ["CALIBRATION", "CHECK"]

CALIBRATION = 1 << 40
"""Of samples that ranges and importances are taken from."""

CHECK = 3 << 40
"""Of samples that a step's result is compared on with the uncompressed model."""
