"""Autoencoders: plain, residual, vector-quantized, and the cells of NVAE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from prunability.zoo.case import Residual, case, floats, whole
from torch import Tensor, nn

W = 16


@case("vae", floats("x", 64))
class MlpVAE(nn.Module):
    """Kingma and Welling 2014: mean and log-variance come out of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 2 * 12))
        self.decoder = nn.Sequential(nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + 0.1 * torch.exp(0.5 * logvar)), logvar


def block(c: int) -> nn.Module:
    norm = nn.GroupNorm
    return Residual(
        norm(4, c),
        nn.SiLU(),
        nn.Conv2d(c, c, 3, padding=1),
        norm(4, c),
        nn.SiLU(),
        nn.Conv2d(c, c, 3, padding=1),
    )


@case("vae", floats("x", 3, 16, 16))
class ResnetVAE(nn.Module):
    """Residual blocks with group norms, as in latent diffusion's first stage."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, W, 3, padding=1), block(W), nn.Conv2d(W, 2 * W, 3, 2, 1), block(2 * W),
            nn.GroupNorm(4, 2 * W), nn.SiLU(), nn.Conv2d(2 * W, 8, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(4, 2 * W, 3, padding=1), block(2 * W), nn.Upsample(scale_factor=2.0),
            nn.Conv2d(2 * W, W, 3, padding=1), block(W), nn.GroupNorm(4, W), nn.SiLU(), nn.Conv2d(W, 3,
            3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).chunk(2, 1)[0])


@case("vae", floats("x", 3, 16, 16))
class VQVAE(nn.Module):
    """van den Oord et al. 2017. What the codebook is compared with keeps its width or shrinks with it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, W, 4, 2, 1), nn.ReLU(), nn.Conv2d(W, W, 4, 2, 1),
            Residual(nn.ReLU(), nn.Conv2d(W, W, 3, padding=1), nn.ReLU(), nn.Conv2d(W, W, 1)),
            nn.Conv2d(W, 8, 1),
        )  # fmt: skip
        self.codebook = nn.Embedding(32, 8)
        self.decoder = nn.Sequential(
            nn.Conv2d(8, W, 3, padding=1), Residual(nn.ReLU(), nn.Conv2d(W, W, 3, padding=1)),
            nn.ConvTranspose2d(W, W, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(W, 3, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x).movedim(1, -1)
        table = self.codebook.weight
        far = z.square().sum(-1, keepdim=True) - 2 * z @ table.t() + table.square().sum(1)
        return self.decoder(self.codebook(far.argmin(-1)).movedim(-1, 1))


@case("vae", whole("codes", 32, 4, 4), fast=True)
def vqvae_decoder() -> nn.Module:
    class Decoder(nn.Module):
        """From codes alone, as a prior gives them."""

        def __init__(self) -> None:
            super().__init__()
            self.codebook = nn.Embedding(32, W)
            self.body = nn.Sequential(
                nn.Conv2d(W, 2 * W, 3, padding=1), Residual(nn.ReLU(), nn.Conv2d(2 * W, 2 * W, 3, padding=1)),
                nn.ConvTranspose2d(2 * W, W, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(W, 3, 4, 2, 1),
            )  # fmt: skip

        def forward(self, codes: Tensor) -> Tensor:
            return self.body(self.codebook(codes).permute(0, 3, 1, 2))

    return Decoder()


class Squeeze(nn.Module):
    """Hu et al. 2018."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(c, c // 2), nn.Linear(c // 2, c)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]


@case("vae", floats("z", 12, 4, 4))
def nvae_cells() -> nn.Module:
    """Vahdat and Kautz 2020: depthwise residual cells with batch norm, swish and squeeze-excite."""

    def cell(c: int) -> nn.Module:
        wide = 3 * c
        return Residual(
            nn.BatchNorm2d(c), nn.Conv2d(c, wide, 1), nn.BatchNorm2d(wide), nn.SiLU(),
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide), nn.BatchNorm2d(wide), nn.SiLU(),
            nn.Conv2d(wide, c, 1), nn.BatchNorm2d(c), Squeeze(c),
        )  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(12, W, 1),
        cell(W),
        nn.Upsample(scale_factor=2.0),
        cell(W),
        nn.ELU(),
        nn.Conv2d(W, 3, 3, padding=1),
    )
