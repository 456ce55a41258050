"""The layers of TarFlow: values in the order of patches, and causal transformers that move token by token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.models.flow.transforms import Transform
from niwaki.nn.layers.causal import CausalBlock, Rotary
from niwaki.nn.layers.dropout import Dropout

__all__ = ["CausalMove", "Reorder", "patch_order"]


def patch_order(shape: tuple[int, int, int], patch: int) -> Tensor:
    """Places `(C·H·W,)` of an image's values: patch after patch, in each of them all channels."""
    channels, height, width = shape
    places = torch.arange(math.prod(shape)).view(channels, height // patch, patch, width // patch, patch)
    return places.permute(1, 3, 0, 2, 4).flatten()


class Reorder(nn.Module):
    """Value i of what comes out is value order[i] of what goes in."""

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.order), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z.index_select(1, self.back)


class CausalMove(nn.Module):
    """z_t = f(x_t; θ(x_<t, class)), token by token (Zhai et al. 2024, Equations 3 and 4).

    The first token is moved by what the class says alone; the paper leaves it as it is.

    tokens, dim: of a sample, flattened to `(n, tokens · dim)`
    backwards:   t counts from the last token
    transform:   f, value by value, and how many numbers θ it needs for each
    classes:     0 without them
    """

    def __init__(
        self,
        tokens: int,
        dim: int,
        transform: Transform,
        *,
        backwards: bool,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.tokens, self.dim, self.backwards, self.transform = tokens, dim, backwards, transform
        self.enter = nn.Linear(dim, width)
        self.place = nn.Embedding(tokens, width)
        self.embed = nn.Embedding(classes, width) if classes else None
        self.drop = Dropout(dropout)
        self.rotary = Rotary(tokens, width // heads)
        self.blocks = nn.ModuleList(CausalBlock(width, heads, 4 * width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim * transform.parameters)
        # Small, so that the flow starts near the identity; not zero, so that all gets a gradient.
        nn.init.xavier_uniform_(self.leave.weight, gain=1e-2)
        nn.init.zeros_(self.leave.bias)
        for embedding in (self.place, self.embed):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All tokens in one pass."""
        x = self._turned(x.unflatten(1, (self.tokens, self.dim)))
        places = torch.arange(self.tokens, device=x.device)
        turn = self.rotary(places)
        h = self.drop(self._enter(F.pad(x[:, :-1], (0, 0, 1, 0)), places, y))
        for block in self.blocks:
            h = block(h, turn)
        z, logdet = self.transform.forward(x.flatten(0, 1), self._leave(h))
        z, logdet = (part.unflatten(0, (-1, self.tokens)) for part in (z, logdet))
        return self._turned(z).flatten(1), logdet.sum((1, 2))

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Token by token: each is told by those that are made."""
        z = self._turned(z.unflatten(1, (self.tokens, self.dim)))
        asked = () if self.embed is None or y is None else (y,)
        state = [z.new_zeros(z.shape[0], *shape) for shape in self.state_shapes()]
        made = [torch.zeros_like(z[:, 0])]
        for t in range(self.tokens):
            x, *news = self.read(made[-1], z[:, t], torch.tensor([t], device=z.device), *asked, *state)
            made.append(x)
            pairs = zip(state, news, strict=True)
            state = [torch.cat([old[:, :, :t], new, old[:, :, t + 1 :]], 2) for old, new in pairs]
        return self._turned(torch.stack(made[1:], 1)).flatten(1)

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """(heads, tokens, d) of the keys and of the values of each layer."""
        layers = [layer for block in self._layers() for layer in (block.attention.k, block.attention.v)]
        heads = self._layers()[0].attention.heads
        return [(heads, self.tokens, layer.out_features // heads) for layer in layers]

    def read(self, before: Tensor, z: Tensor, step: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """One token: the one made before it `(n, dim)`, z_t `(n, dim)`, t `(1,)` → x_t, new keys and values.

        rest: the class where there is one, then keys and values of each layer `(n, heads, tokens, d)`
        """
        y, state = (None, rest) if self.embed is None else (rest[0], rest[1:])
        h, turn, news = self._enter(before[:, None], step, y), self.rotary(step), []
        for i, block in enumerate(self._layers()):
            h, k, v = block.read(h, turn, step, state[2 * i], state[2 * i + 1])
            news += [k, v]
        return (self.transform.inverse(z, self._leave(h)), *news)

    def _layers(self) -> list[CausalBlock]:
        return [block for block in self.blocks if isinstance(block, CausalBlock)]

    def _turned(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.backwards else x

    def _enter(self, before: Tensor, places: Tensor, y: Tensor | None) -> Tensor:
        h: Tensor = self.enter(before) + self.place(places)
        return h if self.embed is None else h + self.embed(y)[:, None]

    def _leave(self, h: Tensor) -> Tensor:
        """The stream `(n, t, width)` → what the transform is told of each token `(n·t, parameters · dim)`, in
        float32 also under autocast: log-determinants are sums of it."""
        said = self.leave(self.norm(h)).flatten(0, 1).to(self.place.weight.dtype)
        return self.transform.arrange(said.unflatten(1, (-1, self.dim)))
