"""Architectures in which nothing can be cut: each must be refused, with the reason."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from prunability.zoo.case import case, floats
from prunability.zoo.dynamic import Descent
from torch import Tensor, nn

W = 16


@case("refused", floats("z", 4), refuses="'network:out': it makes an output of a graph")
def linear_vae() -> nn.Module:
    """The decoder of probabilistic PCA (Tipping and Bishop 1999; Lucas et al. 2019): latent to sample, and
    nothing in between."""
    return nn.Linear(4, 24)


class Planar(nn.Module):
    """One planar flow, z + u·tanh(wᵀz + b) (Rezende and Mohamed 2015): a hidden layer of one unit."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(d, 1), nn.Linear(1, d, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.u(torch.tanh(self.w(z)))


@case("refused", floats("z", 6), refuses="'network.0.w:out': it has one channel")
def planar_flow() -> nn.Module:
    return nn.Sequential(*(Planar(6) for _ in range(8)))


@case("refused", floats("z", 6), refuses="no layer of the model makes channels of its own")
class Fastfood(nn.Module):
    """Deep fried layers (Le et al. 2013; Yang et al. 2015), H·diag(g)·H·diag(s): the Hadamard transform H has
    no weights, and its width is a power of two."""

    def __init__(self) -> None:
        super().__init__()
        self.s, self.g, self.b = (nn.Parameter(torch.randn(3, W)) for _ in range(3))

    def forward(self, z: Tensor) -> Tensor:
        h = F.pad(z, (0, W - z.shape[1]))
        for s, g, b in zip(self.s, self.g, self.b, strict=True):
            h = torch.relu(_hadamard(g * _hadamard(s * h)) + b)
        return h


def _hadamard(x: Tensor) -> Tensor:
    """(n, 2^k), by butterflies."""
    width, half = x.shape[-1], 1
    while half < width:
        a, b = x.unflatten(1, (-1, 2, half)).unbind(2)
        x, half = torch.stack([a + b, a - b], 2).flatten(1), 2 * half
    return x / math.sqrt(width)


@case("refused", floats("z", 6), refuses="'network.0:out': its channels are not interchangeable")
def fullsort() -> nn.Module:
    """Anil et al. 2019: every activation sorts all channels, so that the rank of a channel is its meaning."""
    return nn.Sequential(nn.Linear(6, W), Sort(), nn.Linear(W, W), Sort(), nn.Linear(W, 8))


class Sort(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


@case("refused", floats("x", 8, 4), refuses="passes through 'aten::.*', which cannot be followed")
class FourierMixer(nn.Module):
    """FNet (Lee-Thorp et al. 2022) without its feed-forward layers: the transform over the channels looks at
    how many there are and where each stands."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, W), nn.Linear(W, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(W) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for norm in self.norms:
            h = norm(h + torch.fft.fft2(h).real)
        return self.last(h)


@case("refused", floats("x", 3, 8, 8), refuses="it is written into a part of another tensor")
class SharedMemoryDenseNet(nn.Module):
    """Pleiss et al. 2017: features are not concatenated but written, one after the other, into memory that
    was reserved for all of them."""

    def __init__(self, growth: int = 8, layers: int = 3) -> None:
        super().__init__()
        self.growth = growth
        self.layers = nn.ModuleList(nn.Conv2d(3 + i * growth, growth, 3, padding=1) for i in range(layers))
        self.last = nn.Conv2d(3 + layers * growth, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        memory = x.new_zeros(len(x), self.last.in_channels, *x.shape[2:])
        memory[:, :3] = x
        for i, layer in enumerate(self.layers):
            at = 3 + i * self.growth
            memory[:, at : at + self.growth] = torch.relu(layer(memory[:, :at].clone()))
        return self.last(memory)


@case("refused", floats("z", 6), refuses="it lies in TorchScript, whose layers cannot be changed")
def torchscript_mlp() -> nn.Module:
    """A generator as some are passed on: compiled, without the class that it was made of."""
    return torch.jit.script(
        nn.Sequential(nn.Linear(6, 2 * W), nn.ReLU(), nn.Linear(2 * W, 2 * W), nn.ReLU(), nn.Linear(2 * W, 8))
    )


@case("refused", floats("z", 6), refuses="'network.first:out': a trial cut fails")
class ThroughNumpy(nn.Module):
    """A whitening that leaves torch: what numpy does to the channels, and with how many, cannot be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, W), nn.Linear(W, 8)

    def forward(self, z: Tensor) -> Tensor:
        h = torch.relu(self.first(z)).detach().numpy()
        return self.last(torch.from_numpy(h - h.mean(0)))


@case("refused", floats("x", 1, 8, 8), refuses="passes through 'aten::convolution_backward', which cannot")
def energy_convolutions() -> nn.Module:
    """Du and Mordatch 2019: sampling goes through the backward pass of convolutions."""
    return Descent(
        nn.Conv2d(1, W, 3, 1, 1), nn.SiLU(), nn.Conv2d(W, W, 3, 2, 1), nn.SiLU(), nn.Flatten(),
        nn.Linear(16 * W, 1),
    )  # fmt: skip
