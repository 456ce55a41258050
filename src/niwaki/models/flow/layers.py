"""The invertible layers of a flow, each with `forward(x, y) → (z, log|det|)` and `inverse(z, y) → x`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.models.flow.constants import FromWeights
from niwaki.models.flow.transforms import Transform
from niwaki.nn.layers.dropout import Dropout

__all__ = ["ActNorm", "Conditioner", "Coupling"]


class ActNorm(FromWeights):
    """z = e^s (x + b), value by value (Kingma & Dhariwal 2018, Section 3.1)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def begin(self, x: Tensor, y: Tensor | None = None) -> None:
        """Make `x` `(n, size)` come out with mean 0 and variance 1. In place, under `no_grad`."""
        self.shift.copy_(-x.mean(0))
        self.log_scale.copy_(-torch.log(x.std(0, unbiased=False) + 1e-3))

    def constants(self) -> tuple[Tensor, ...]:
        """e^s, e^−s and log|det|."""
        return torch.exp(self.log_scale), torch.exp(-self.log_scale), self.log_scale.sum()

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, _, logdet = self.known()
        return scale * (x + self.shift), logdet.expand(x.shape[0])

    moved = None
    """All values, by constants (`CodedLayer`)."""

    def each(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and log dz/dx of each value `(n, size)`."""
        return self.known()[0] * (x + self.shift), self.log_scale.expand_as(x)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z * self.known()[1] - self.shift


class Conditioner(nn.Module):
    """What decides how values move: those that stay `(n, a)` and the class → `(n, outputs)`.

    classes: 0 without them; they enter the first hidden layer and the output
    depth:   hidden layers of `width` units
    dropout: share of hidden units that are left out in training
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int, depth: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.embed = nn.Embedding(classes, width) if classes else None
        self.offset = nn.Embedding(classes, outputs) if classes else None
        hidden: list[nn.Module] = []
        for _ in range(depth - 1):
            hidden += [nn.SiLU(), Dropout(dropout), nn.Linear(width, width)]
        self.hidden = nn.Sequential(*hidden, nn.SiLU(), Dropout(dropout))
        self.output = nn.Linear(width, outputs)
        # Small, so that the flow starts near the identity; not zero, so that all gets a gradient.
        nn.init.xavier_uniform_(self.output.weight, gain=1e-2)
        nn.init.zeros_(self.output.bias)
        if self.embed is not None and self.offset is not None:
            nn.init.normal_(self.embed.weight, std=0.1)
            nn.init.zeros_(self.offset.weight)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.embed is None or self.offset is None:
            return self.output(self.hidden(h))
        return self.output(self.hidden(h + self.embed(y))) + self.offset(y)


class Coupling(nn.Module):
    """z_B = f(x_B; θ(x_A, class)), z_A = x_A (Dinh et al. 2017, Equations 4–8).

    mask:      `(size,)`, True for the values A that stay
    transform: f, and how many numbers θ it needs for each value
    """

    stay: Tensor
    move: Tensor
    order: Tensor

    def __init__(self, mask: Tensor, transform: Transform, **conditioner: float) -> None:
        super().__init__()
        stay, move = mask.nonzero().flatten(), (~mask).nonzero().flatten()
        for name, value in {"stay": stay, "move": move, "order": torch.cat([stay, move]).argsort()}.items():
            self.register_buffer(name, value, persistent=False)
        self.transform = transform
        outputs = len(move) * transform.parameters
        self.conditioner = Conditioner(len(stay), outputs, **conditioner)  # type: ignore[arg-type]

    @property
    def moved(self) -> Tensor:
        """Which values `(size,)` (`CodedLayer`)."""
        return torch.zeros(len(self.order), dtype=torch.bool).index_fill(0, self.move.cpu(), True)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.index_select(1, self.stay), x.index_select(1, self.move)
        moved, logdet = self.transform.forward(b, self.conditioner(a, y))
        return torch.cat([a, moved], dim=1).index_select(1, self.order), logdet.sum(1)

    def each(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and log dz/dx of each value `(n, size)`."""
        a, b = x.index_select(1, self.stay), x.index_select(1, self.move)
        moved, slopes = self.transform.forward(b, self.conditioner(a, y))
        z, all_slopes = torch.cat([a, moved], dim=1), torch.cat([torch.zeros_like(a), slopes], dim=1)
        return z.index_select(1, self.order), all_slopes.index_select(1, self.order)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = z.index_select(1, self.stay), z.index_select(1, self.move)
        back = self.transform.inverse(b, self.conditioner(a, y))
        return torch.cat([a, back], dim=1).index_select(1, self.order)
