"""A selective state space model over tokens (Gu & Dao 2023, "Mamba"): read in parallel in training, with a
state of fixed size in sampling."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor, nn

from niwaki.core.contract import DataSpec, State
from niwaki.models.autoregressive.token_model import TokenModel, TokenModelConfig
from niwaki.models.registry import register
from niwaki.nn.layers.selective_scan import SelectiveBlock

__all__ = ["StateSpace", "StateSpaceConfig"]


class StateSpaceConfig(TokenModelConfig):
    """
    depth:     number of blocks
    expansion: channels of a block's scan, in multiples of `width`
    heads:     groups of channels that decay alike
    state:     numbers that each channel remembers
    kernel:    tokens that the convolution before the scan sees
    """

    depth: int = Field(4, ge=1)
    expansion: int = Field(2, ge=1)
    heads: int = Field(8, ge=1)
    state: int = Field(16, ge=1)
    kernel: int = Field(4, ge=2)

    @model_validator(mode="after")
    def _divisible(self) -> StateSpaceConfig:
        if self.width * self.expansion % self.heads:
            raise ValueError(
                f"{self.width * self.expansion} channels of a scan do not give {self.heads} equal heads"
            )
        return self


@register("state-space")
class StateSpace(TokenModel):
    """A language model whose cost for a token does not depend on how many came before.

    config: StateSpaceConfig
    spec:   tokens `(T,)`
    """

    Config = StateSpaceConfig
    config: StateSpaceConfig

    def __init__(self, config: StateSpaceConfig, spec: DataSpec) -> None:
        super().__init__()
        self.begin(config, spec)
        c = config
        self.blocks = nn.ModuleList(
            SelectiveBlock(c.width, c.expansion * c.width, c.heads, c.state, c.kernel, c.dropout)
            for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.width)
        self.finish(c.depth, ("out.weight",))
        for block in self._blocks():
            block.initialize()

    @property
    def layers(self) -> tuple[str, ...]:
        return ("blocks", "norm")

    def _blocks(self) -> list[SelectiveBlock]:
        return [block for block in self.blocks if isinstance(block, SelectiveBlock)]

    def think(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h)
        return h

    def advance(self, h: Tensor, position: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = h.squeeze(1)
        news: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            x, seen, kept = block.step(x, state[2 * i], state[2 * i + 1])
            news += [seen, kept]
        return (x.unsqueeze(1), *news)

    def carried(self) -> tuple[State, ...]:
        found = []
        for i, block in enumerate(self._blocks()):
            inner = block.enter.out_features
            seen = (1, inner, block.kernel - 1)
            kept = (1, block.heads, inner // block.heads, block.b.out_features)
            found += [
                State(f"seen_{i}", f"seen_{i}_new", seen),
                State(f"kept_{i}", f"kept_{i}_new", kept),
            ]
        return tuple(found)
