"""The layers of Glow. Each works on the first values of a flattened sample, read as an image, and leaves the
rest, which earlier levels have split off."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki.models.flow.transforms import Transform
from niwaki.nn.layers.blocks import near_zero_init

__all__ = ["ChannelNorm", "ConvCoupling", "InvertibleMix", "Squeeze", "invert_unit_lower"]


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

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, logdet = self.move(self.image(x), y)
        return self._with_rest(z, x), logdet

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self._with_rest(self.back(self.image(z), y), z)

    def _with_rest(self, image: Tensor, whole: Tensor) -> Tensor:
        """Flattened again, before what is left alone of `whole`."""
        flat = image.flatten(1)
        return flat if whole.shape[1] == self.size else torch.cat([flat, whole[:, self.size :]], dim=1)


class Squeeze(OnImage):
    """(C, H, W) → (4C, H/2, W/2): squares of 2×2 pixels become channels (Dinh et al. 2017, Section 3.6)."""

    @property
    def after(self) -> tuple[int, int, int]:
        c, h, w = self.shape
        return 4 * c, h // 2, w // 2

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        return nn.functional.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        return nn.functional.pixel_shuffle(z.flatten(1).unflatten(1, self.after), 2)


class ChannelNorm(OnImage):
    """z = e^s (x + b), channel by channel (Kingma & Dhariwal 2018, Section 3.1)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.log_scale = nn.Parameter(torch.zeros(shape[0], 1, 1))
        self.shift = nn.Parameter(torch.zeros(shape[0], 1, 1))

    def begin(self, x: Tensor) -> None:
        """Make the channels of `x` come out with mean 0 and variance 1. In place, under `no_grad`."""
        rows = self.image(x).transpose(0, 1).flatten(1)
        self.shift.copy_(-rows.mean(1)[:, None, None])
        self.log_scale.copy_(-torch.log(rows.std(1, unbiased=False) + 1e-3)[:, None, None])

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        places = self.shape[1] * self.shape[2]
        return torch.exp(self.log_scale) * (x + self.shift), places * self.log_scale.sum().expand(x.shape[0])

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        return z * torch.exp(-self.log_scale) - self.shift


def invert_unit_lower(matrix: Tensor) -> Tensor:
    """Inverse of a lower triangular matrix `(c, c)` with ones on its diagonal, by products alone, which every
    engine has: (I + N)⁻¹ = (I − N)(I + N²)(I + N⁴) …, since N is nilpotent."""
    one = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    power = matrix - one
    out = one - power
    for _ in range(max(0, math.ceil(math.log2(matrix.shape[0])) - 1)):
        power = power @ power
        out = out @ (one + power)
    return out


class InvertibleMix(OnImage):
    """A 1×1 convolution P L (U + diag e^s ±1), whose determinant is that of its diagonal (Kingma & Dhariwal
    2018, Section 3.2); it starts as a random rotation."""

    order: Tensor
    sign: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        rotation = torch.linalg.qr(torch.randn(shape[0], shape[0], dtype=torch.float64))[0]
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer(
            "order", p.argmax(1)
        )  # row i of P M is row order[i] of M; column i of M Pᵀ as well
        self.register_buffer("sign", diagonal.sign().float())
        self.lower, self.upper = nn.Parameter(lower.float()), nn.Parameter(upper.float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """L with ones on its diagonal, U with ones on its diagonal, and the diagonal D of D U."""
        one = torch.eye(self.shape[0], dtype=self.lower.dtype, device=self.lower.device)
        diagonal = self.sign * torch.exp(self.log_diagonal)
        upper = self.upper.triu(1) / diagonal[:, None] + one
        return self.lower.tril(-1) + one, upper, diagonal

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        lower, upper, diagonal = self._parts()
        weight = (lower @ (diagonal[:, None] * upper)).index_select(0, self.order)
        places = self.shape[1] * self.shape[2]
        logdet = places * self.log_diagonal.sum().expand(x.shape[0])
        return (weight @ x.flatten(2)).unflatten(2, self.shape[1:]), logdet

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        lower, upper, diagonal = self._parts()
        turned = invert_unit_lower(upper.t()).t() @ (invert_unit_lower(lower) / diagonal[:, None])
        weight = turned.index_select(1, self.order)
        return (weight @ z.flatten(2)).unflatten(2, self.shape[1:])


class ConvCoupling(OnImage):
    """The later half of the channels is moved by what a network reads in the earlier half and the class.

    width: channels of the network: 3×3, 1×1 and 3×3 convolutions (Kingma & Dhariwal 2018, Section 4)
    """

    def __init__(
        self, shape: tuple[int, int, int], transform: Transform, *, width: int, classes: int
    ) -> None:
        super().__init__(shape)
        self.stays = (shape[0] + 1) // 2
        self.moves = shape[0] - self.stays
        self.transform = transform
        self.first = nn.Conv2d(self.stays, width, 3, padding=1)
        self.embed = nn.Embedding(classes, width) if classes else None
        self.rest = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        last = nn.Conv2d(width, self.moves * transform.parameters, 3, padding=1)
        self.last = near_zero_init(last)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.1)

    def _said(self, a: Tensor, y: Tensor | None) -> Tensor:
        """`(n, parameters · moves · H · W)`, the parameters of each value as the transform wants them."""
        h = self.first(a)
        if self.embed is not None:
            h = h + self.embed(y)[:, :, None, None]
        said = self.last(self.rest(h)).unflatten(1, (-1, self.moves))  # (n, parameters, moves, H, W)
        return self.transform.arrange(said.flatten(2))

    def move(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        a, b = x[:, : self.stays], x[:, self.stays :]
        moved, logdet = self.transform.forward(b.flatten(1), self._said(a, y))
        return torch.cat([a, moved.unflatten(1, b.shape[1:])], dim=1), logdet.sum(1)

    def back(self, z: Tensor, y: Tensor | None) -> Tensor:
        a, b = z[:, : self.stays], z[:, self.stays :]
        moved = self.transform.inverse(b.flatten(1), self._said(a, y))
        return torch.cat([a, moved.unflatten(1, b.shape[1:])], dim=1)
