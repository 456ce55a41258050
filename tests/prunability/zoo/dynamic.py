"""Networks whose weights, depth or direction are decided while they run."""

from __future__ import annotations

import torch
from prunability.zoo.case import case, floats
from torch import Tensor, nn

W = 16


@case("dynamic", floats("z", 6), floats("places", 5, 2))
class HyperNetwork(nn.Module):
    """Ha et al. 2017, as INR-GAN uses it (Skorokhodov et al. 2021): a latent makes the weights of a network
    from places to colours. The widths of the network that is made stay."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.first, self.last = nn.Linear(32, 2 * W), nn.Linear(32, 3 * W)

    def forward(self, z: Tensor, places: Tensor) -> Tensor:
        code = self.code(z)
        first, last = self.first(code).unflatten(1, (2, W)), self.last(code).unflatten(1, (W, 3))
        return torch.sin(places @ first) @ last


@case("dynamic", floats("z", 6), unexportable="uncut, it has no ONNX form either: values say when it stops")
class AdaptiveTime(nn.Module):
    """Graves 2016: the same layer again, until the halting probabilities sum to one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 8)
        self.halt = nn.Parameter(torch.randn(32))

    def forward(self, z: Tensor) -> Tensor:
        h = torch.tanh(self.first(z))
        total, out = torch.zeros_like(h[:, 0]), torch.zeros_like(h)
        for _ in range(10):
            p = torch.sigmoid(h @ self.halt)
            out, total = out + p[:, None] * h, total + p
            if bool((total > 1).all()):
                break
            h = torch.tanh(self.again(h))
        return self.last(out)


class Descent(nn.Module):
    """Du and Mordatch 2019: x goes down the gradient of an energy."""

    def __init__(self, *energy: nn.Module) -> None:
        super().__init__()
        self.energy = nn.Sequential(*energy)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return x - 0.1 * slope


@case("dynamic", floats("x", 2), unexportable="uncut, it has no ONNX form either: it differentiates")
def energy_mlp() -> nn.Module:
    return Descent(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
