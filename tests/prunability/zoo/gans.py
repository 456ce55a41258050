"""Generators from noise: DCGAN to StyleGAN2."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from prunability.zoo.case import Residual, case, floats, whole
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

W = 16


@case("gan", floats("z", 12))
def gan_mlp() -> nn.Module:
    """Goodfellow et al. 2014."""
    return nn.Sequential(
        nn.Linear(12, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.Tanh(),
    )


@case("gan", floats("z", 12, 1, 1))
def dcgan() -> nn.Module:
    """Radford et al. 2016."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(12, 4 * W, 4, bias=False)]
    for c_in, c_out in ((4 * W, 2 * W), (2 * W, W)):
        layers += [nn.BatchNorm2d(c_in), nn.ReLU(True), nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=False)]
    return nn.Sequential(
        *layers, nn.BatchNorm2d(W), nn.ReLU(True), nn.ConvTranspose2d(W, 3, 4, 2, 1), nn.Tanh()
    )


class Up(nn.Module):
    """Residual block that doubles the sides (Miyato et al. 2018), its norms conditional where classes are
    given."""

    def __init__(self, c_in: int, c_out: int, code: int = 0, wrap=spectral_norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = (
            (ConditionalNorm(c_in, code), ConditionalNorm(c_out, code))
            if code
            else (nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out))
        )
        self.conv1, self.conv2 = (
            wrap(nn.Conv2d(c_in, c_out, 3, padding=1)),
            wrap(nn.Conv2d(c_out, c_out, 3, padding=1)),
        )
        self.skip = wrap(nn.Conv2d(c_in, c_out, 1))

    def forward(self, x: Tensor, *code: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x, *code)), scale_factor=2.0))
        return self.skip(F.interpolate(x, scale_factor=2.0)) + self.conv2(F.relu(self.norm2(h, *code)))


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift come from a code (de Vries et al. 2017)."""

    def __init__(self, c: int, code: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c, affine=False)
        self.gain, self.bias = (
            spectral_norm(nn.Linear(code, c, bias=False)),
            spectral_norm(nn.Linear(code, c, bias=False)),
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.gain(code)[:, :, None, None]) + self.bias(code)[:, :, None, None]


@case("gan", floats("z", 12))
class SNGAN(nn.Module):
    """Miyato et al. 2018, spectral norm in the generator too (Zhang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.start = spectral_norm(nn.Linear(12, 2 * W * 16))
        self.body = nn.Sequential(Up(2 * W, W), Up(W, W), nn.BatchNorm2d(W), nn.ReLU())
        self.last = spectral_norm(nn.Conv2d(W, 3, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.body(self.start(z).view(-1, 2 * W, 4, 4))))


class SelfAttention(nn.Module):
    """Zhang et al. 2019: queries and keys an eighth, values a half, keys and values pooled."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.query, self.key = (spectral_norm(nn.Conv2d(c, c // 4, 1, bias=False)) for _ in range(2))
        self.value, self.out = (
            spectral_norm(nn.Conv2d(*s, 1, bias=False)) for s in ((c, c // 2), (c // 2, c))
        )
        self.gamma = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2)
        k, v = (F.max_pool2d(m(x), 2).flatten(2) for m in (self.key, self.value))
        seen = v @ torch.softmax(q.transpose(1, 2) @ k, -1).transpose(1, 2)
        return x + self.gamma * self.out(seen.view(x.shape[0], -1, *x.shape[2:]))


@case("gan", floats("z", 24), whole("y", 5), fast=True)
class BigGAN(nn.Module):
    """Brock et al. 2019: chunks of the latent to every block, shared class embedding, self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.start = nn.Embedding(5, 8), nn.Linear(8, 2 * W * 16)
        self.up1, self.up2, self.attention = Up(2 * W, 2 * W, 16), Up(2 * W, W, 16), SelfAttention(2 * W)
        self.norm, self.last = nn.BatchNorm2d(W), spectral_norm(nn.Conv2d(W, 3, 3, padding=1))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        z, z1, z2 = z.chunk(3, 1)
        e = self.embed(y)
        h = self.start(z).view(z.shape[0], -1, 4, 4)
        h = self.attention(self.up1(h, torch.cat([z1, e], 1)))
        return torch.tanh(self.last(F.relu(self.norm(self.up2(h, torch.cat([z2, e], 1))))))


class Equal(nn.Module):
    """A convolution with its weight scaled at run time (Karras et al. 2018), modulated where a style is given
    (Karras et al. 2020, Equations 1 to 3)."""

    def __init__(self, c_in: int, c_out: int, k: int, style: int = 0) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(c_out, c_in, k, k)),
            nn.Parameter(torch.zeros(c_out)),
        )
        self.scale = 1 / math.sqrt(c_in * k * k)
        self.style = nn.Linear(style, c_in) if style else None

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        weight, pad = self.weight * self.scale, self.weight.shape[-1] // 2
        if self.style is None:
            return F.conv2d(x, weight, self.bias, padding=pad)
        n = x.shape[0]
        weight = weight[None] * self.style(w)[:, None, :, None, None]
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), padding=pad, groups=n)
        return x.reshape(n, -1, *x.shape[2:]) + self.bias[:, None, None]


class Modulated(Equal):
    """The same by scaling what comes in and what goes out, so that the batch may be free."""

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        weight, style = self.weight * self.scale, self.style(w)
        norm = torch.rsqrt((style.square() @ weight.square().sum((2, 3)).t()) + 1e-8)
        x = F.conv2d(x * style[:, :, None, None], weight, padding=self.weight.shape[-1] // 2)
        return x * norm[:, :, None, None] + self.bias[:, None, None]


class StyleBody(nn.Module):
    def __init__(self, conv: type[Equal]) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(12, 24), nn.LeakyReLU(0.2), nn.Linear(24, 24), nn.LeakyReLU(0.2)
        )
        self.constant = nn.Parameter(torch.randn(1, 2 * W, 4, 4))
        self.conv1, self.conv2, self.conv3 = (
            conv(2 * W, 2 * W, 3, 24),
            conv(2 * W, W, 3, 24),
            conv(W, W, 3, 24),
        )
        self.noise = nn.Parameter(torch.zeros(1, 1, 8, 8))
        self.rgb1, self.rgb2 = Equal(2 * W, 3, 1), Equal(W, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        h = F.leaky_relu(self.conv1(self.constant.expand(z.shape[0], -1, -1, -1), w), 0.2)
        image = F.interpolate(self.rgb1(h), scale_factor=2.0, mode="bilinear")
        h = F.leaky_relu(self.conv2(F.interpolate(h, scale_factor=2.0), w) + self.noise, 0.2)
        return image + self.rgb2(F.leaky_relu(self.conv3(h, w), 0.2))


@case("gan", floats("z", 12), fast=True)
def stylegan2() -> nn.Module:
    return StyleBody(Modulated)


@case(
    "gan",
    floats("z", 12),
    name="stylegan2-grouped",
    unexportable="uncut, it has no ONNX form either: groups per sample",
)
def stylegan2_grouped() -> nn.Module:
    """As published: one group of a convolution per sample."""
    return StyleBody(Equal)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


@case("gan", floats("z", 12))
def progressive_gan() -> nn.Module:
    """Karras et al. 2018."""
    return nn.Sequential(
        PixelNorm(), nn.Linear(12, 2 * W * 16), nn.Unflatten(1, (-1, 4, 4)), nn.LeakyReLU(0.2), PixelNorm(),
        Equal(2 * W, 2 * W, 3), nn.LeakyReLU(0.2), PixelNorm(), nn.Upsample(scale_factor=2.0),
        Equal(2 * W, W, 3), nn.LeakyReLU(0.2), PixelNorm(), Equal(W, W, 3), nn.LeakyReLU(0.2),
        PixelNorm(), Equal(W, 3, 1),
    )  # fmt: skip


@case("gan", floats("z", 12))
def wgan_gp_resnet() -> nn.Module:
    """Gulrajani et al. 2017, with weight norm."""
    return nn.Sequential(
        weight_norm(nn.Linear(12, W * 16)), nn.Unflatten(1, (W, 4, 4)), Up(W, W, wrap=weight_norm),
        Residual(nn.BatchNorm2d(W), nn.ReLU(), weight_norm(nn.Conv2d(W, W, 3, padding=1))),
        nn.BatchNorm2d(W), nn.ReLU(), weight_norm(nn.Conv2d(W, 3, 3, padding=1)), nn.Tanh(),
    )  # fmt: skip


@case("gan", floats("z", 12))
def dcgan_old_weight_norm() -> nn.Module:
    """Norms by hooks, as older code has them."""
    old, spectral = nn.utils.weight_norm, nn.utils.spectral_norm
    return nn.Sequential(
        nn.Linear(12, 2 * W * 16), nn.Unflatten(1, (2 * W, 4, 4)), old(nn.Conv2d(2 * W, W, 3,
        padding=1)), nn.ReLU(),
        nn.Upsample(scale_factor=2.0), spectral(nn.Conv2d(W, W, 3, padding=1)), nn.ReLU(), nn.Conv2d(W,
        3, 3, padding=1),
    )  # fmt: skip


class GLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * torch.sigmoid(b)


@case("gan", floats("z", 12), fast=True)
class FastGAN(nn.Module):
    """Liu et al. 2021: gated linear units, and small maps that excite the channels of large ones."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.ConvTranspose2d(12, 4 * W, 4, bias=False), nn.BatchNorm2d(4 * W), GLU())
        self.up1 = self._up(2 * W, 2 * W)
        self.up2 = self._up(2 * W, W)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Conv2d(2 * W, W, 4), nn.SiLU(), nn.Conv2d(W, W, 1), nn.Sigmoid()
        )
        self.last = nn.Conv2d(W, 3, 3, padding=1)

    def _up(self, c_in: int, c_out: int) -> nn.Module:
        conv = nn.Conv2d(c_in, 2 * c_out, 3, padding=1, bias=False)
        return nn.Sequential(nn.Upsample(scale_factor=2.0), conv, nn.BatchNorm2d(2 * c_out), GLU())

    def forward(self, z: Tensor) -> Tensor:
        h4 = self.start(z[:, :, None, None])
        h8 = self.up1(h4)
        return torch.tanh(self.last(self.up2(h8) * self.excite(h4)))
