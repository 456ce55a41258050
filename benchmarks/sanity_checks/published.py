"""The published cells: which metrics passed which checks, from the tables stored with the authors' code.

For each metric and each check two letters: its purpose (of the scaling: its invariance) and its other cell.
T and F as they are; L and H: passed as a low or as a high diversity metric (`criteria`).
"""

from __future__ import annotations

__all__ = ["CHECKS", "PUBLISHED"]

CHECKS = (
    "Discrete vs. continuous",
    "Gaussian mean",
    "Gaussian mean + outlier",
    "Gaussian mean + Pareto",
    "Gaussian standard deviation",
    "Hypercube, sample size",
    "Hypercube, generated size",
    "Hypersphere surface",
    "Mode collapse",
    "Mode dropping + invention",
    "One disjoint dimension",
    "Scaling one dimension",
    "Sequential mode dropping",
    "Simultaneous mode dropping",
    "Sphere vs. torus",
)
"""The order of the letters below."""

PUBLISHED = {
    "fidelity": {
        "improved precision": "FF TF FF TF TF FF FT FF TF TT FF FF TF TF TT",
        "density": "FF TT TF TT TF FF FT FF TT TT FF TT TT FT TT",
        "α-precision": "FF TF TF TT FF FF FT TF TF FF FT TT FF FF TF",
        "precision cover": "FF TT TT TT FF FF FF FF TT FF FF TT FF FF FF",
        "symmetric precision": "FF TF FF TT FF FF FF TT TF FF FF TT FF FF TT",
        "probabilistic precision": "FF TF TF TF TF FF FT FF TF TF FF TT TF TF TT",
    },
    "diversity": {
        "improved recall": "FF TF FF TT HF FF FF FF FF TT FF FT TF FF FT",
        "coverage": "FF TT TT TT FF FF FF FF FT FF FF TT TT TT FF",
        "β-recall": "FF TF TF TF LF FF FF FF FF FF FT TT FF FF TT",
        "recall cover": "FF TT TT TT FF FF FF FF FT FF FF TT FT TT FT",
        "symmetric recall": "FF TF TF TT FF FF FF TT FF FF FF TT TF FF FF",
        "probabilistic recall": "FF TF TF TF HF FF FF FF FF TF FF TT TF TF FT",
    },
}
