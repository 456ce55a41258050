"""Pictures and captions as one sequence of tokens, which draws from a caption and captions a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    Graph,
    Port,
    Program,
    View,
)
from niwaki.models.asked import NOTHING, text_columns
from niwaki.models.config import Conditioning
from niwaki.models.registry import register
from niwaki.models.vae.codebooks import Kind
from niwaki.models.vae.joint_prior import JointPrior
from niwaki.models.vae.vqvae import VqVae, VqVaeConfig
from niwaki_runtime.samplers import Autoregressive, Cascade, OneShot, Sampler

__all__ = ["CAPTIONING", "TextImage", "TextImageConfig"]

CAPTIONING = "caption"
"""The program that says what a picture shows."""


class TextImageConfig(VqVaeConfig):
    """
    conditioning: `columns` the one that holds the captions; `drop` the share of samples in training whose
                  caption stands behind the picture alone
    other settings: as in `VqVaeConfig`; captions need no encoder, and are read one token after another
    """

    codebook: Kind = "averaged"
    mean_start: bool = Field(True, exclude_if=lambda value: value)
    prior: Literal["causal"] = "causal"
    text_width: Literal[0] = Field(0, exclude_if=lambda value: not value)
    conditioning: Conditioning = Conditioning(drop=0.5)


@register("text-image")
class TextImage(VqVae):
    """Words and the codes of a VQ-VAE in one causal transformer: a caption, a picture, the caption once more.

    `sample` begins with a caption and writes codes; `caption` begins with a blank one and the codes of a
    picture, and writes words. A blank caption is also what guidance leads away from.

    config: TextImageConfig
    spec:   images `(C, H, W)` of at least 4×4, with a column of captions
    """

    Config = TextImageConfig
    config: TextImageConfig
    prior: JointPrior

    def prepare_conditions(self) -> None:
        named = self.config.conditioning.columns
        texts = [n for n in text_columns(self.spec) if self.config.conditioning.wants(n)]
        if len(texts) != 1:
            found = ", ".join(texts) or "none"
            raise CallError(
                f"'{self.name}' needs one column of captions, and finds {found}; name it by "
                "model.conditioning.columns"
            )
        if named is not None and set(named) != set(texts):
            raise CallError(f"'{self.name}' is asked by captions alone, not by {', '.join(named)}")
        if not self.config.conditioning.drop:
            raise CallError(f"'{self.name}' learns to caption where model.conditioning.drop is above 0")
        (self.column,) = texts
        self.told = self.spec[self.column]
        self.conditions = {self.column: ConditionSpec(self.told, NOTHING)}
        self.words, self.classes, self.guided = nn.ModuleDict(), 0, True

    def make_prior(self) -> JointPrior:  # type: ignore[override]
        c = self.config
        return JointPrior(
            self.told.levels, self.told.shape[0], c.codes, self.length, NOTHING, width=c.prior_width,
            heads=c.prior_heads, layers=c.prior_layers, dropout=c.prior_dropout,
        )  # fmt: skip

    def check_asked(self, batch: Batch) -> None:
        _ = batch[self.column]

    def asked(self, batch: Batch, ctx: Context) -> list[Tensor]:
        """The captions `(n, told)`, and which stand behind the picture alone `(n,)`."""
        coins = torch.rand((len(batch),), generator=ctx.rng, device=batch.x.device)
        return [batch[self.column].long(), coins < self.config.conditioning.drop]

    def prior_loss(self, numbers: Tensor, asked: Sequence[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        caption, untold = asked
        return self.prior.joint_loss(caption, numbers, untold)

    def read(self, x: Tensor) -> Tensor:
        """x `(n, *shape)` → what stands before its caption `(n, told + length)`: a blank one, codes."""
        codes = self.encode(x)
        return torch.cat([torch.full_like(codes[:, : self.told.shape[0]], NOTHING), codes], dim=1)

    def graphs(self) -> dict[str, Graph]:
        reader = Graph("encoder", View(self, "read"), (Port("x", (1, *self.spec.shape)),), ("read",))
        return {**super().graphs(), "reader": reader}

    def sampler(self) -> Sampler:
        """A caption is read, and codes are written behind it."""
        draw = self._writing(self.told.shape[0] + self.length, self.column, self.length)
        legs = draw.override(null={self.column: NOTHING}), OneShot(None, "decoder", ("codes",))
        return Cascade(legs, ("codes",)).override(**self.config.sampling)

    def _writing(self, length: int, prompt: str, keep: int) -> Autoregressive:
        return Autoregressive(length=length, first=self.prior.first, graph="prior", prompt=prompt, keep=keep)

    def programs(self) -> dict[str, Program]:
        """`caption` says what a picture shows, by the likeliest words; `encode` and `decode` its codes."""
        found = super().programs()
        say = self._writing(self.prior.length, "read", self.told.shape[0]).override(temperature=0.0)
        legs = OneShot(None, "reader", ("x",)), say
        found[CAPTIONING] = Program(Cascade(legs, ("read",)), {"x": ConditionSpec(self.spec.x)}, self.told)
        return found
