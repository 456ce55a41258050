"""Path-length regularization (Karras et al. 2020, Section 3.2): a step in w moves the image equally far in
every direction, everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["path_lengths"]


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """‖Jᵀy‖₂ for a random image y of each sample: `(n,)`, J the Jacobian of an image by its styles.

    images: `(n, C, H, W)`, computed from `styles`
    styles: `(n, layers, style)`; the square is summed over a style and averaged over layers, so that a
            network of more layers has no longer paths
    noise:  `(n, C, H, W)`, standard normals; y is noise / √(H W), which makes lengths independent of the size
    """
    y = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), styles, create_graph=True)
    # A root has no slope at 0, where a saturated image has its length; this far from it, it is the root.
    return (gradient.square().sum(2).mean(1) + 1e-12).sqrt()
