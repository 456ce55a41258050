"""Models of data that are Gaussian, whose denoiser is known in closed form."""

from __future__ import annotations

import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.core.contract import GenerativeModel
from niwaki.models import build
from niwaki.nn.diffusion import TensorProcess, columns

PATHS = ("ddpm", "edm", "flow-matching")
STD = 0.4
"""Of every pixel of the data."""


class GaussianDenoiser(nn.Module):
    """The exact denoiser of x₀ ~ N(mean, std²): E[x₀ | x] = mean + α std² (x − α mean) / (α² std² + σ²)."""

    def __init__(self, model: GenerativeModel, mean: float = 0.0, std: float = STD) -> None:
        super().__init__()
        self.sampler, self.path = model.sampler(), TensorProcess(model.sampler().process)
        self.mean, self.std = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(std))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        process = self.sampler.process
        if process.kind == "variance_preserving":
            time = t.long()
        else:
            time = (4.0 * t).exp() if process.kind == "karras" else t / 1000.0
        a, s = (columns(level, x) for level in self.path.levels(time))
        x = x / process.network_input(torch.ones(()), a, s)
        m, v = self.mean, self.std.square()
        x0 = m + a * v * (x - a * m) / (a * a * v + s * s)
        return process.conversion(self.sampler.prediction).target(x0, (x - a * x0) / s, a, s)


def gaussian(name: str, mean: float = 0.0, std: float = STD, **settings: object) -> GenerativeModel:
    """A model of that name whose network is the exact denoiser; samples are not clipped."""
    torch.manual_seed(0)
    sampling = {"clip": 0.0, "steps": 8}
    small = {"widths": [8], "blocks": 1, "attention": [], "groups": 4, "sampling": sampling, **settings}
    model = build(name, small, small_models.IMAGE).eval()
    model.denoiser = GaussianDenoiser(model, mean, std)
    return model
