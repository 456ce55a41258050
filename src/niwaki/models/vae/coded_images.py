"""Images as a few codes: an encoder, a codebook, a decoder, and a prior that writes codes. What is common to
codebooks and priors of all kinds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise
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
from niwaki.nn.layers.blocks import conv_down, conv_norm, conv_up, pyramid
from niwaki.nn.layers.images import Squash, class_condition, image_shape, labels_of, to_signed
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Cascade, OneShot, Sampler

__all__ = ["CodedImages", "CodedImagesConfig"]


class CodedImagesConfig(ModelConfig):
    """
    codes:     how many there are
    dim:       length of a code's vector
    width:     channels at full size; doubled at every halving
    grid:      images are halved until a side would fall below it; each place of the grid has a vector
    beta:      weight of the commitment term
    revive:    steps after which codes that nobody chose are moved to features of the batch; 0 never does
    batches:   batches that the first codes are found from
    prior_…:   width, attention heads, layers and dropout of the prior
    """

    codes: int = Field(64, ge=2)
    dim: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    grid: int = Field(4, ge=1)
    beta: float = Field(0.25, ge=0)
    revive: int = Field(50, ge=0)
    batches: int = Field(8, ge=1)
    prior_width: int = Field(64, ge=1)
    prior_heads: int = Field(4, ge=1)
    prior_layers: int = Field(2, ge=1)
    prior_dropout: float = Field(0.1, ge=0, lt=1)


class CodedImages(GenerativeModel):
    """Two stages: `codes` trains encoder, codebook and decoder, `prior` a prior of the codes.

    A subclass says which codebook and which prior, how many codes an image has, and what they stand for.

    config: CodedImagesConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    config: CodedImagesConfig
    codebook: Any  # what a `Codebook` does, on maps
    prior: Any  # `loss`, `graph`, `writing` and `coding`, as of `CodePrior`

    def __init__(self, config: CodedImagesConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, height, width = self.frame_shape(spec)
        if config.prior_width % config.prior_heads:
            raise CallError(
                f"prior_width {config.prior_width} cannot be shared by {config.prior_heads} heads"
            )
        self.classes = spec.classes if config.conditioning.wants("class") else 0
        self.conditions = class_condition(spec) if self.classes else {}
        sizes, w = pyramid(height, width, config.grid), config.width
        self.grid = sizes[0]
        widths = [w * 2**i for i in range(len(sizes))]  # by halvings
        down: list[nn.Module] = conv_norm(channels, w, norm="none")
        for a, b in pairwise(widths):
            down += conv_down(a, b, nn.ReLU)
        down += conv_norm(widths[-1], widths[-1], norm="none")
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], config.dim, 1))
        self.codebook = self.make_codebook()
        up: list[nn.Module] = conv_norm(config.dim, widths[-1], norm="none")
        for b, a in pairwise(widths[::-1]):
            up += conv_up(b, a, norm="none")
        up += conv_norm(w, w, norm="none")
        self.decoder = nn.Sequential(*up, nn.Conv2d(w, channels, 3, padding=1), Squash(spec.low, spec.high))
        self.prior = self.make_prior()

    def frame_shape(self, spec: DataSpec) -> tuple[int, int, int]:
        """(C, H, W) of what is encoded. Raises CallError for data that this model is not for."""
        return image_shape(spec, self.name)

    @abstractmethod
    def make_codebook(self) -> nn.Module:
        """Raises CallError for settings that give none."""

    @abstractmethod
    def make_prior(self) -> nn.Module: ...

    @property
    @abstractmethod
    def length(self) -> int:
        """Codes of an image."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Codes `(n, length)` → images in the spec's range `(n, C, H, W)`."""

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("codes", ("encoder", "codebook", "decoder"), stage="codes"),
            Phase("prior", ("prior",), stage="prior"),
        )

    def features(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → what codes are searched for `(n, h, w, dim)`."""
        return self.encoder(to_signed(x, self.spec)).movedim(1, -1)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The first codes are the centres of the features of the first batches."""
        if ctx.stage == "codes":
            h = torch.cat([self.features(self.whole(batches(k))) for k in range(self.config.batches)])
            self.codebook.begin(h, ctx.rng)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        """Codes that nobody chose for a while come back to life; not near the end, where they must settle."""
        due = self.config.revive and ctx.step and ctx.step % self.config.revive == 0
        if due and ctx.stage == "codes" and ctx.progress < 0.8:
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
        x = to_signed(self._draw(e), self.spec).float()
        ctx.log(**self.perplexities(numbers))
        return {"reconstruction": (x - to_signed(real, self.spec)).square().mean(), **terms}

    def whole(self, batch: Batch) -> Tensor:
        """All of a batch that has codes."""
        return batch.x

    def prior_loss(self, numbers: Tensor, y: Tensor | None, rng: torch.Generator) -> dict[str, Tensor]:
        """What codes `(n, length)` of classes `(n,)` cost the prior."""
        found: dict[str, Tensor] = self.prior.loss(numbers, y, rng)
        return found

    def quantize(self, h: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Features `(n, h, w, dim)` → what the decoder is given, numbers, loss terms."""
        found: tuple[Tensor, Tensor, dict[str, Tensor]] = self.codebook(h)
        return found

    def perplexities(self, numbers: Tensor) -> dict[str, Tensor]:
        """How many codes are in use, were they equally frequent."""
        p = torch.bincount(numbers.flatten(), minlength=self.config.codes) / numbers.numel()
        return {"perplexity": torch.exp(-torch.special.xlogy(p, p).sum())}

    def _draw(self, e: Tensor) -> Tensor:
        """Vectors `(n, h, w, dim)` → images `(n, C, H, W)`."""
        return self.decoder(e.movedim(-1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → codes `(n, length)` int64."""
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
        """`codec` codes pictures by their codes, with loss; it needs a prior that says one after another."""
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
