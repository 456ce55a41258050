"""Samples as a few codes: an encoder, a codebook, a decoder, and a prior that writes codes. What is common to
networks, codebooks and priors of all kinds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.models.registry import ModelConfig
from niwaki.models.vae.codebooks import revival_is_due
from niwaki.nn.layers.images import class_condition, labels_of, to_signed
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
    prior_…:   width, attention heads, layers and dropout of the prior
    """

    codes: int = Field(64, ge=2)
    dim: int = Field(16, ge=1)
    beta: float = Field(0.25, ge=0)
    revive: int = Field(50, ge=0)
    batches: int = Field(8, ge=1)
    prior_width: int = Field(64, ge=1)
    prior_heads: int = Field(4, ge=1)
    prior_layers: int = Field(2, ge=1)
    prior_dropout: float = Field(0.1, ge=0, lt=1)


class CodedSamples(GenerativeModel):
    """Two stages: `codes` trains encoder, codebook and decoder, `prior` a prior of the codes.

    A subclass says which networks, which codebook and which prior, how many codes a sample has, and what they
    stand for.

    config: CodedSamplesConfig
    spec:   amounts between two bounds
    """

    config: CodedSamplesConfig
    codebook: Any  # what a `Codebook` does, on maps
    prior: Any  # `loss`, `graph`, `writing` and `coding`, as of `CodePrior`

    def __init__(self, config: CodedSamplesConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        if config.prior_width % config.prior_heads:
            raise CallError(
                f"prior_width {config.prior_width} cannot be shared by {config.prior_heads} heads"
            )
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        self.encoder, self.grid = self.make_encoder()
        self.codebook = self.make_codebook()
        self.decoder = self.make_decoder()
        self.prior = self.make_prior()

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
        return (
            Phase("codes", ("encoder", "codebook", "decoder"), stage="codes"),
            Phase("prior", ("prior",), stage="prior"),
        )

    def features(self, x: Tensor) -> Tensor:
        """x `(n, *shape)` → what codes are searched for `(n, *grid, dim)`."""
        return self.encoder(to_signed(x, self.spec)).movedim(1, -1)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The first codes are the centres of the features of the first batches."""
        if ctx.stage == "codes":
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
        y = labels_of(batch, self.classes, self.name)
        real = self.whole(batch)
        if phase == "prior":
            with torch.no_grad():
                numbers = self.encode(real)
            return self.prior_loss(numbers, y, ctx.rng)
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

    def prior_loss(self, numbers: Tensor, y: Tensor | None, rng: torch.Generator) -> dict[str, Tensor]:
        """What codes `(n, length)` of classes `(n,)` cost the prior."""
        found: dict[str, Tensor] = self.prior.loss(numbers, y, rng)
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
            "prior": self.prior_graph(),
            "decoder": Graph("decoder", View(self, "decode"), (codes,), ("x",)),
            "encoder": Graph(
                "encoder", View(self, "encode"), (Port("x", (1, *self.spec.shape)),), ("codes",)
            ),
        }

    def prior_graph(self) -> Graph:
        found: Graph = self.prior.graph()
        return found

    def sampler(self) -> Sampler:
        draw = OneShot(None, "decoder", ("codes",))
        writing = self.prior.writing(tuple(self.conditions))
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
        coding = self.prior.coding(tuple(self.conditions))
        if coding is not None:
            found[CODEC] = Program(coding, {"x": x, **self.conditions}, BITS)
        return found
