"""The layers of Glow. Each works on the first values of a flattened sample, read as an image, and leaves the
rest, which earlier levels have split off."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from niwaki.models.flow.constants import FromWeights
from niwaki.models.flow.transforms import Transform

__all__ = ["ChannelNorm", "ConvCoupling", "InvertibleMix", "OnImage", "Scale", "Squeeze"]


class OnImage(nn.Module):
    """Layers say `move` and `back` on images `(n, C, H, W)`.

    shape: (C, H, W) of what is still in work
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, self.size = shape, math.prod(shape)

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """z and log|det| `(n,)`."""
        raise NotImplementedError

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        raise NotImplementedError

    def image(self, x: Tensor) -> Tensor:
        return x[:, : self.size].unflatten(1, self.shape)

    @property
    def after(self) -> tuple[int, int, int]:
        """(C, H, W) of what comes out."""
        return self.shape

    def begin(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set what follows from data `(n, size)`. In place, under `no_grad`."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.move(self.image(x), y)
        return self._with_rest(z, x), logdet

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self._with_rest(self.back(z[:, : self.size].unflatten(1, self.after), y), z)

    def _with_rest(self, image: Tensor, whole: Tensor) -> Tensor:
        """Flattened again, before what is left alone of `whole`."""
        flat = image.flatten(1)
        return flat if whole.shape[1] == self.size else torch.cat([flat, whole[:, self.size :]], dim=1)


class Scale(OnImage):
    """Layers on the same values, one after another; what earlier scales have split off is cut off and put
    back once for all of them."""

    def __init__(self, shape: tuple[int, int, int], parts: list[OnImage]) -> None:
        super().__init__(shape)
        self.parts = nn.ModuleList(parts)

    @property
    def after(self) -> tuple[int, int, int]:
        return self._parts()[-1].after

    def begin(self, x: Tensor, y: Tensor | None = None) -> None:
        """Activation normalization, layer by layer."""
        image = self.image(x)
        for part in self._parts():
            part.begin(image.flatten(1), y)
            image = part.move(image, y)[0]

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0])
        for part in self._parts():
            x, logdet = part.move(x, y)
            total = total + logdet
        return x, total

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        for part in reversed(self._parts()):
            z = part.back(z, y)
        return z

    def _parts(self) -> list[OnImage]:
        return [part for part in self.parts if isinstance(part, OnImage)]


class Squeeze(OnImage):
    """(C, H, W) → (4C, H/2, W/2): squares of 2×2 pixels become channels (Dinh et al. 2017, Section 3.6)."""

    @property
    def after(self) -> tuple[int, int, int]:
        c, h, w = self.shape
        return 4 * c, h // 2, w // 2

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        return nn.functional.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        return nn.functional.pixel_shuffle(z, 2)


class ChannelNorm(OnImage, FromWeights):
    """z = e^s (x + b), channel by channel (Kingma & Dhariwal 2018, Section 3.1)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.log_scale = nn.Parameter(torch.zeros(shape[0], 1, 1))
        self.shift = nn.Parameter(torch.zeros(shape[0], 1, 1))

    def begin(self, x: Tensor, y: Tensor | None = None) -> None:
        """Make the channels of `x` come out with mean 0 and variance 1. In place, under `no_grad`."""
        rows = self.image(x).transpose(0, 1).flatten(1)
        self.shift.copy_(-rows.mean(1)[:, None, None])
        self.log_scale.copy_(-torch.log(rows.std(1, unbiased=False) + 1e-3)[:, None, None])

    def constants(self) -> tuple[Tensor, ...]:
        """e^s, e^−s and log|det|."""
        places = self.shape[1] * self.shape[2]
        return torch.exp(self.log_scale), torch.exp(-self.log_scale), places * self.log_scale.sum()

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        scale, _, logdet = self.known()
        return scale * (x + self.shift), logdet.expand(x.shape[0])

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        return z * self.known()[1] - self.shift


class InvertibleMix(OnImage, FromWeights):
    """A 1×1 convolution P L (U + diag e^s ±1), whose determinant is that of its diagonal (Kingma & Dhariwal
    2018, Section 3.2); it starts as a random rotation."""

    order: Tensor
    sign: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        rotation = torch.linalg.qr(torch.randn(shape[0], shape[0], dtype=torch.float64))[0]
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("order", p.argmax(1))  # row i of P M is row order[i] of M
        self.register_buffer("sign", diagonal.sign().float())
        self.lower, self.upper = nn.Parameter(lower.float()), nn.Parameter(upper.float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())

    def constants(self) -> tuple[Tensor, ...]:
        """The matrix, its inverse and log|det|; in float64, then rounded."""
        one = torch.eye(self.shape[0], dtype=torch.float64, device=self.lower.device)
        diagonal = self.sign.double() * torch.exp(self.log_diagonal.double())
        lower = self.lower.double().tril(-1) + one
        upper = self.upper.double().triu(1) + torch.diag(diagonal)
        weight = (lower @ upper).index_select(0, self.order)
        right = torch.linalg.solve_triangular(lower, one, upper=False, unitriangular=True)
        turned = torch.linalg.solve_triangular(upper, right, upper=True)
        inverse = turned.index_select(1, self.order)  # (L U)⁻¹ Pᵀ
        logdet = self.shape[1] * self.shape[2] * self.log_diagonal.sum()
        return weight.to(self.lower.dtype), inverse.to(self.lower.dtype), logdet

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        weight, _, logdet = self.known()
        return self._mixed(weight, x), logdet.expand(x.shape[0])

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self._mixed(self.known()[1], z)

    def _mixed(self, weight: Tensor, x: Tensor) -> Tensor:
        """In the values' own precision: rounded to bfloat16, nothing would come back."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return (weight @ x.flatten(2)).unflatten(2, self.shape[1:])
        return (weight @ x.flatten(2)).unflatten(2, self.shape[1:])


class ConvCoupling(OnImage):
    """The later half of the channels is moved by what a network reads in the earlier half.

    network: made by `network(channels in, channels out)`; called with the earlier half and what else is given
             (the class), it says the parameters of the transform at every place
    """

    def __init__(
        self, shape: tuple[int, int, int], transform: Transform, network: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__(shape)
        self.stays = (shape[0] + 1) // 2
        self.moves = shape[0] - self.stays
        self.transform = transform
        self.network = network(self.stays, self.moves * transform.parameters)

    def _said(self, a: Tensor, y: Tensor | None) -> Tensor:
        """The parameters of each value as the transform wants them."""
        said = self.network(a, y).unflatten(1, (-1, self.moves))  # (n, parameters, moves, H, W)
        return self.transform.arrange(said.flatten(2).to(a.dtype))

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        a, b = x[:, : self.stays], x[:, self.stays :]
        moved, logdet = self.transform.forward(b.flatten(1), self._said(a, y))
        return torch.cat([a, moved.unflatten(1, b.shape[1:])], dim=1), logdet.sum(1)

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        a, b = z[:, : self.stays], z[:, self.stays :]
        moved = self.transform.inverse(b.flatten(1), self._said(a, y))
        return torch.cat([a, moved.unflatten(1, b.shape[1:])], dim=1)
