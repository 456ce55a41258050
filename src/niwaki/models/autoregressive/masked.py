"""Masked diffusion of tokens (Sahoo et al. 2024, "MDLM"; Shi et al. 2024): a transformer that sees the whole
sequence learns to say what stands under masks, and writes by taking masks away."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    Graph,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.autoregressive.token_network import TokenNetwork, TokenNetworkConfig
from niwaki.models.registry import register
from niwaki.nn.layers.causal import BlockStyle, CausalBlock, Norm, Rotary, norm_of
from niwaki.nn.layers.feed_forward import FeedForward
from niwaki.nn.masking import hide, masked_nll
from niwaki_runtime.programs import LOG_PROB
from niwaki_runtime.samplers import Masked, MaskedBound, Sampler

__all__ = ["MaskedDiffusion", "MaskedDiffusionConfig"]


class MaskedDiffusionConfig(TokenNetworkConfig):
    """
    depth:     number of blocks
    heads:     of each attention; `width` is a multiple of twice as many
    expansion: width between the two layers of a block's network, in multiples of `width`
    base:      of the rotary positions: the slowest pair of channels turns once in about 2π·base tokens
    steps:     in which a sequence is written
    draws:     calls of the network for `log_prob`
    norm, feed_forward: as in `BlockStyle`
    """

    depth: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    base: float = Field(10_000.0, gt=1)
    steps: int = Field(64, ge=1)
    draws: int = Field(16, ge=1)
    norm: Norm = "layer"
    feed_forward: FeedForward = "squared_relu"


@register("masked")
class MaskedDiffusion(TokenNetwork):
    """log p(x) ≥ E_k L/k Σ_masked log p(xᵢ | the tokens that show, labels), of k masked places of L.

    The network is not told the time: how many masks there are says it (Sahoo et al. 2024, Section 3.5; Ou et
    al. 2024). It gives no logit to the mask, and what shows is taken over as it is, so that a token once
    written stays.

    config: MaskedDiffusionConfig
    spec:   tokens `(T,)`
    """

    Config = MaskedDiffusionConfig
    config: MaskedDiffusionConfig

    def __init__(self, config: MaskedDiffusionConfig, spec: DataSpec) -> None:
        super().__init__()
        self.begin(config, spec)
        c = config
        if c.width % (2 * c.heads):
            raise CallError(f"a width of {c.width} does not give {c.heads} heads of an even width each")
        self.rotary = Rotary(self.length, c.width // c.heads, c.base)
        style = BlockStyle(c.norm, c.feed_forward, causal=False)
        self.blocks = nn.ModuleList(
            CausalBlock(c.width, c.heads, c.expansion * c.width, c.dropout, style) for _ in range(c.depth)
        )
        self.norm = norm_of(c.norm, c.width)
        self.finish(c.depth, ("out.weight", "down.weight"))

    @property
    def layers(self) -> tuple[str, ...]:
        return ("blocks", "norm")

    @property
    def mask(self) -> int:
        """The number that stands where no token is yet."""
        return self.tokens

    def logits(self, tokens: Tensor, *labels: Tensor) -> Tensor:
        """Tokens `(n, T)`, masks among them → logits `(n, T, tokens)` of every place given all that shows."""
        h = self.drop(self._enter(tokens, labels))
        turn = self.rotary(torch.arange(self.length, device=h.device))
        for block in self.blocks:
            h = block(h, turn)
        return self._leave(h)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """−ELBO, in nats per token."""
        labels = self._asked(batch, ctx)
        tokens, hidden = hide(batch.x, self.mask, ctx.rng)
        return {"bound": masked_nll(self.logits(tokens, *labels), batch.x, hidden)}

    def graphs(self) -> dict[str, Graph]:
        tokens = Port("tokens", (1, self.length), "int64", high=self.tokens + 1)
        ports = (tokens, *self._label_ports())
        return {"predictor": Graph("predictor", View(self, "logits"), ports, ("logits",))}

    def sampler(self) -> Sampler:
        return self._writing("")

    def _writing(self, prompt: str) -> Sampler:
        sampler = Masked(
            self.length, self.mask, self.config.steps, conditions=tuple(self.label_conditions), prompt=prompt
        )
        return sampler.override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample`; `continue` keeps the tokens of `prompt`, wherever they stand, and writes where it has −1;
        `log_prob` in nats, a lower bound on average."""
        prompt = ConditionSpec(ValueSpec("text", (self.length,), "T", self.spec.values), null=-1)
        asked = {"x": ConditionSpec(self.spec.x), **self.label_conditions}
        bound = MaskedBound(self.length, self.mask, conditions=tuple(asked), draws=self.config.draws)
        nats = ValueSpec("vector", (), "", Real(-math.inf, math.inf))
        return {
            **super().programs(),
            "continue": Program(
                self._writing("prompt"), {"prompt": prompt, **self.label_conditions}, self.spec.x
            ),
            LOG_PROB: Program(bound, asked, nats),
        }
