"""Samples as a few codes: an encoder, a codebook, a decoder, and a prior that writes codes. What is common to
networks, codebooks and priors of all kinds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

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
    Phase,
    Port,
    Program,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.models.asked import LABEL, Asked, label_columns, paired_columns, text_columns
from niwaki.models.registry import ModelConfig
from niwaki.models.vae.codebooks import revival_is_due
from niwaki.nn.layers.images import to_signed
from niwaki.nn.layers.text_encoder import TextEncoder
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Cascade, OneShot, Sampler

__all__ = ["CodedSamples", "CodedSamplesConfig"]


class CodedSamplesConfig(ModelConfig):
    """
    codes:     how many there are
    dim:       length of a code's vector
    beta:      weight of the commitment term
    revive:    steps after which codes that nobody chose are moved to features of the batch; 0 never does
    batches:   batches that the first codes are found from
    frozen_codes: whether encoder, codebook and decoder come from another training (`train.init_from`) and
               stay as they are; there is one stage then, of the prior
    prior_…:   width, attention heads, layers and dropout of the prior
    text_width: of the vectors that encode a caption's tokens; 0 looks at no captions
    text_depth: blocks of the transformer that encodes captions; 0 lets no word look at another
    text_heads: of each attention in it; `text_width` is a multiple of twice as many
    conditioning: the columns that samples are asked by: the captions where they are looked at, else the class
    """

    codes: int = Field(64, ge=2)
    dim: int = Field(16, ge=1)
    beta: float = Field(0.25, ge=0)
    revive: int = Field(50, ge=0)
    batches: int = Field(8, ge=1)
    frozen_codes: bool = Field(False, exclude_if=lambda value: not value)
    prior_width: int = Field(64, ge=1)
    prior_heads: int = Field(4, ge=1)
    prior_layers: int = Field(2, ge=1)
    prior_dropout: float = Field(0.1, ge=0, lt=1)
    text_width: int = Field(0, ge=0, exclude_if=lambda value: not value)
    text_depth: int = Field(1, ge=0, exclude_if=lambda value: value == 1)
    text_heads: int = Field(4, ge=1, exclude_if=lambda value: value == 4)


class CodedSamples(Asked):
    """Two stages, unless codes are frozen: `codes` trains encoder, codebook and decoder, `prior` a prior of
    the codes.

    A subclass says which networks, which codebook and which prior, how many codes a sample has, and what they
    stand for.

    config: CodedSamplesConfig
    spec:   amounts between two bounds
    """

    config: CodedSamplesConfig
    takes_texts: ClassVar[bool] = False  # whether its prior does, and can be led
    codebook: Any  # what a `Codebook` does, on maps
    prior: Any  # `loss`, `graph`, `writing` and `coding`, as of `CodePrior`

    def __init__(self, config: CodedSamplesConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        if config.prior_width % config.prior_heads:
            raise CallError(
                f"prior_width {config.prior_width} cannot be shared by {config.prior_heads} heads"
            )
        self.encoder, self.grid = self.make_encoder()
        self.codebook = self.make_codebook()
        self.decoder = self.make_decoder()
        self.prepare_conditions()
        self.prior = self.make_prior()

    def prepare_conditions(self) -> None:
        """What the prior is asked by, as `Asked.set_conditions` has it."""
        self.set_conditions(self._columns(), self._encoder, numbers=True, guidable=self.takes_texts)

    def _columns(self) -> tuple[str, ...]:
        """What samples are asked by. Raises CallError for captions that nothing would look at."""
        c, spec = self.config, self.spec
        if c.text_width and not self.takes_texts:
            raise CallError(f"'{self.name}' takes no captions; leave out 'model.text_width'")
        named = c.conditioning.columns
        if named is None:
            return (text_columns(spec) if c.text_width else ()) or label_columns(spec)
        asked = tuple(name for name in named if name in paired_columns(spec))
        if not c.text_width and set(asked) & set(text_columns(spec)):
            raise CallError(f"'{self.name}' looks at captions where 'model.text_width' is above 0")
        return asked if c.text_width else tuple(name for name in asked if name == LABEL)

    def _encoder(self, asked: ConditionSpec, blank: int | None) -> TextEncoder:
        c = self.config
        return TextEncoder.of(asked, blank, c.text_width, c.text_depth, c.text_heads)

    @abstractmethod
    def make_encoder(self) -> tuple[nn.Sequential, tuple[int, ...]]:
        """From samples in −1 … 1 to vectors of length `dim`, which its last layer makes; the sides of the
        grid. Raises CallError for data that it is not for."""

    @abstractmethod
    def make_decoder(self) -> nn.Sequential:
        """From such vectors to samples in the spec's range."""

    @abstractmethod
    def make_codebook(self) -> nn.Module:
        """Raises CallError for settings that give none."""

    @abstractmethod
    def make_prior(self) -> nn.Module: ...

    @property
    @abstractmethod
    def length(self) -> int:
        """Codes of a sample."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes `(n, length)` → samples in the spec's range `(n, *shape)`."""

    def phases(self) -> tuple[Phase, ...]:
        parts = ("prior", "words") if len(self.words) else ("prior",)
        if self.config.frozen_codes:
            return (Phase("prior", parts),)
        return (
            Phase("codes", ("encoder", "codebook", "decoder"), stage="codes"),
            Phase("prior", parts, stage="prior"),
        )

    def features(self, x: Tensor) -> Tensor:
        """x `(n, *shape)` → what codes are searched for `(n, *grid, dim)`."""
        return self.encoder(to_signed(x, self.spec)).movedim(1, -1)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The first codes are the centres of the features of the first batches."""
        if ctx.stage == "codes" and not ctx.is_begun(self.codebook, used_by=self.encoder):
            h = torch.cat([self.features(self.whole(batches(k))) for k in range(self.config.batches)])
            self.codebook.begin(h, ctx.rng)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        """Codes that nobody chose for a while come back to life."""
        if ctx.stage == "codes" and revival_is_due(ctx, self.config.revive):
            self.codebook.revive(self.features(self.whole(batch)), ctx.rng)
        return batch

    def after_step(self, ctx: Context) -> None:
        self.codebook.update()

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        self.check_asked(batch)
        real = self.whole(batch)
        if phase == "prior":
            with torch.no_grad():
                numbers = self.encode(real)
            return self.prior_loss(numbers, self.asked(batch, ctx), ctx.rng)
        e, numbers, terms = self.quantize(self.features(real), ctx.rng)
        made = to_signed(self._draw(e), self.spec).float()
        ctx.log(**self.perplexities(numbers))
        return {**self.reconstruction(made, to_signed(real, self.spec)), **terms}

    def whole(self, batch: Batch) -> Tensor:
        """All of a batch that has codes."""
        return batch.x

    def reconstruction(self, made: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Loss terms of what is decoded beside what was encoded, `(n, *shape)` in −1 … 1, float32."""
        return {"reconstruction": (made - x).square().mean()}

    def prior_loss(self, numbers: Tensor, asked: Sequence[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """What codes `(n, length)` cost the prior, given what was asked."""
        found: dict[str, Tensor] = self.prior.loss(numbers, asked, rng)
        return found

    def quantize(self, h: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features `(n, *grid, dim)` → what the decoder is given, numbers, loss terms."""
        found: tuple[Tensor, Tensor, dict[str, Tensor]] = self.codebook(h)
        return found

    def perplexities(self, numbers: Tensor) -> dict[str, Tensor]:
        """How many codes are in use, were they equally frequent."""
        p = torch.bincount(numbers.flatten(), minlength=self.config.codes) / numbers.numel()
        return {"perplexity": torch.exp(-torch.special.xlogy(p, p).sum())}

    def _draw(self, e: Tensor) -> Tensor:
        """Vectors `(n, *grid, dim)` → samples `(n, *shape)`."""
        return self.decoder(e.movedim(-1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """x `(n, *shape)` → codes `(n, length)` int64."""
        return self.codebook.search(self.features(x)).flatten(1)

    def graphs(self) -> dict[str, Graph]:
        codes = Port("codes", (1, self.length), "int64", high=self.config.codes)
        return {
            **self.word_graphs(),
            "prior": self.prior_graph(),
            "decoder": Graph("decoder", View(self, "decode"), (codes,), ("x",)),
            "encoder": Graph(
                "encoder", View(self, "encode"), (Port("x", (1, *self.spec.shape)),), ("codes",)
            ),
        }

    def prior_graph(self) -> Graph:
        found: Graph = self.prior.graph(self.condition_ports())
        return found

    def sampler(self) -> Sampler:
        draw = OneShot(None, "decoder", ("codes",))
        writing = self.prior.writing(self.asking())
        return Cascade((writing, draw), ("codes",)).override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`codec` codes samples by their codes, with loss; it needs a prior that says one after another."""
        codes = ValueSpec("vector", (self.length,), "T", Tokens(self.config.codes))
        x = ConditionSpec(self.spec.x)
        found = {
            **super().programs(),
            "encode": Program(OneShot(None, "encoder", ("x",)), {"x": x}, codes),
            "decode": Program(
                OneShot(None, "decoder", ("codes",)), {"codes": ConditionSpec(codes)}, self.spec.x
            ),
        }
        coding = self.prior.coding(self.asking())
        if coding is not None:
            found[CODEC] = Program(coding, {"x": x, **self.conditions}, BITS)
        return found
