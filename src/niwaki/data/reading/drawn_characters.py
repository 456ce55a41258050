"""Characters drawn from distance fields, anywhere on an image and at any size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from niwaki.data.reading.fonts import EM, GRID

__all__ = ["FILL", "render"]

FILL = 0.75  # the em square's share of an image's edge, where nothing enlarges it
OVERSAMPLING = 2  # samples of the distance field per pixel and direction


def render(fields: Tensor, which: np.ndarray, jitter: np.ndarray, size: int, batch: int = 512) -> Tensor:
    """Images `(n, 1, size, size)` uint8 with 256 levels, ink bright on dark.

    fields: distance fields `(fields, GRID, GRID)` in ems; which: field of each image `(n,)`
    jitter: `(n, 5)`: place to the right and down (shares of the image's edge), slant (shear), log-size, and
            weight (ems added on every side)
    """
    fine = size * OVERSAMPLING
    line = (torch.arange(fine) + 0.5) / fine - 0.5  # pixel centres as shares of the edge, 0 in the middle
    v, u = torch.meshgrid(line, line, indexing="ij")
    ems_per_pixel = 1 / (FILL * fine)
    out = []
    for at in range(0, len(which), batch):
        dx, dy, slant, log_size, weight = (
            torch.from_numpy(jitter[at : at + batch]).float()[:, :, None, None].unbind(1)
        )
        scale = torch.exp(-log_size) / (FILL * GRID / EM)  # from shares of the image to shares of the field
        y = (v - dy) * scale
        x = (u - dx) * scale + slant * y  # y points down: a positive slant leans to the right
        grid = torch.stack((x, y), -1) * 2
        field = fields[torch.from_numpy(which[at : at + batch])].unsqueeze(1)
        distance = F.grid_sample(field, grid, padding_mode="border", align_corners=False) + weight.unsqueeze(
            1
        )
        # a pixel is as bright as the share of it inside the outline, told by the distance of its middle
        ink = (0.5 + distance * torch.exp(log_size).unsqueeze(1) / ems_per_pixel).clamp(0, 1)
        out.append(F.avg_pool2d(ink, OVERSAMPLING).mul_(255).round_().to(torch.uint8))
    return torch.cat(out)
