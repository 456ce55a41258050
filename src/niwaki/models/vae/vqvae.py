"""VQ-VAE (van den Oord, Vinyals & Kavukcuoglu 2017): images as a few codes, and a prior that writes them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

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
from niwaki.models.registry import ModelConfig, register, register_preset
from niwaki.models.vae.code_prior import CodePrior
from niwaki.models.vae.codebooks import CODEBOOKS, Codebook, Kind
from niwaki.models.vae.residual import ResidualCodebook
from niwaki.nn.layers.blocks import conv_down, conv_norm, conv_up, pyramid
from niwaki.nn.layers.images import Squash, class_condition, image_shape, labels_of, to_signed
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import Autoregressive, Cascade, DirectCoding, OneShot, Sampler

__all__ = ["VqVae", "VqVaeConfig"]


class VqVaeConfig(ModelConfig):
    """
    codes:     how many there are
    dim:       length of a code's vector
    width:     channels at full size; doubled at every halving
    grid:      images are halved until a side would fall below it; each place of the grid has a code
    codebook:  `learned` by its own loss, `averaged` (running means), or `levelled` (FSQ)
    books:     codebooks in turn, each for what those before it left over (residual VQ)
    quantizer_dropout: share of samples that are said by 1 … `books` books in training, how many by chance
    beta:      weight of the commitment term
    revive:    steps after which codes that nobody chose are moved to features of the batch; 0 never does
    batches:   batches that the first codes are found from
    prior_…:   width, attention heads, layers and dropout of the prior
    """

    codes: int = Field(64, ge=2)
    dim: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    grid: int = Field(4, ge=1)
    codebook: Kind = "learned"
    books: int = Field(1, ge=1, exclude_if=lambda value: value == 1)
    quantizer_dropout: float = Field(0.0, ge=0, le=1, exclude_if=lambda value: not value)
    beta: float = Field(0.25, ge=0)
    revive: int = Field(50, ge=0)
    batches: int = Field(8, ge=1)
    prior_width: int = Field(64, ge=1)
    prior_heads: int = Field(4, ge=1)
    prior_layers: int = Field(2, ge=1)
    prior_dropout: float = Field(0.1, ge=0, lt=1)


register_preset(
    "fsq",
    "vqvae",
    "finite scalar quantization (Mentzer et al. 2024): 4³ codes without a codebook to learn",
    codebook="levelled",
    codes=64,
    dim=3,
    revive=0,
)

register_preset(
    "residual-vq",
    "vqvae",
    "Residual VQ (Zeghidour et al. 2021): three codebooks of 32 in turn, with quantizer dropout",
    codebook="averaged",
    codes=32,
    books=3,
    quantizer_dropout=0.5,
)


@register("vqvae")
class VqVae(GenerativeModel):
    """Two stages: `codes` trains encoder, codebook and decoder, `prior` an autoregressive prior of the codes.

    config: VqVaeConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config = VqVaeConfig
    config: VqVaeConfig

    def __init__(self, config: VqVaeConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        channels, height, width = image_shape(spec, self.name)
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
        self.codebook = self._codebook()
        up: list[nn.Module] = conv_norm(config.dim, widths[-1], norm="none")
        for b, a in pairwise(widths[::-1]):
            up += conv_up(b, a, norm="none")
        up += conv_norm(w, w, norm="none")
        self.decoder = nn.Sequential(*up, nn.Conv2d(w, channels, 3, padding=1), Squash(spec.low, spec.high))
        self.prior = CodePrior(
            config.codes, self.length, self.classes, width=config.prior_width,
            heads=config.prior_heads, layers=config.prior_layers, dropout=config.prior_dropout,
        )  # fmt: skip

    def _codebook(self) -> Codebook | ResidualCodebook:
        c = self.config
        if c.books > 1 and c.codebook == "levelled":
            raise CallError("finite scalar quantization leaves nothing to further books; set books: 1")
        books = [CODEBOOKS[c.codebook](c.codes, c.dim, c.beta) for _ in range(c.books)]
        return books[0] if c.books == 1 else ResidualCodebook(books)

    @property
    def length(self) -> int:
        """Codes of an image: those of all books at the first place, at the second …"""
        return self.grid[0] * self.grid[1] * self.config.books

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("codes", ("encoder", "codebook", "decoder"), stage="codes"),
            Phase("prior", ("prior",), stage="prior"),
        )

    def features(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → what codes are searched for `(n, h, w, dim)`."""
        return self.encoder(to_signed(x, self.spec)).movedim(1, -1)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The first codes are the centres of the features of the first batches; to fixed levels the features
        are brought."""
        if ctx.stage == "codes":
            h = torch.cat([self.features(batches(k).x) for k in range(self.config.batches)]).flatten(0, -2)
            if self.config.codebook == "levelled":
                self._standardize(h)
            self.codebook.begin(h, ctx.rng)

    def _standardize(self, h: Tensor) -> None:
        """Bring the features that were `h` `(m, dim)` to mean 0 and variance 1, by the encoder's last layer
        (after Salimans & Kingma 2016, Section 3). What a fresh encoder says lies within one level: the same
        code everywhere, which the decoder learns to do without, and it stays so."""
        weight, bias = self.encoder[-1].parameters()
        mean, scale = h.mean(0), h.std(0) + 1e-6
        weight.div_(scale[:, None, None, None])
        bias.sub_(mean).div_(scale)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        """Codes that nobody chose for a while come back to life; not near the end, where they must settle."""
        due = self.config.revive and ctx.step and ctx.step % self.config.revive == 0
        if due and ctx.stage == "codes" and ctx.progress < 0.8:
            self.codebook.revive(self.features(batch.x).flatten(0, -2), ctx.rng)
        return batch

    def after_step(self, ctx: Context) -> None:
        self.codebook.update()

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        y = labels_of(batch, self.classes, self.name)
        if phase == "prior":
            with torch.no_grad():
                numbers = self.encode(batch.x)
            logits = self.prior(numbers, *(() if y is None else (y,)))
            return {"nll": F.cross_entropy(logits.float().flatten(0, 1), numbers.flatten())}
        h = self.features(batch.x)
        e, numbers, terms = self.codebook(h, *self._books_used(len(h), ctx.rng, h.device))
        x = to_signed(self._draw(e), self.spec).float()
        ctx.log(**self._perplexities(numbers))
        return {"reconstruction": (x - to_signed(batch.x, self.spec)).square().mean(), **terms}

    def _books_used(self, n: int, rng: torch.Generator, device: torch.device) -> tuple[Tensor, ...]:
        """How many books say each sample, where some are left out (Zeghidour et al. 2021, Section III.C)."""
        books, share = self.config.books, self.config.quantizer_dropout
        if books == 1 or not share or not self.training:
            return ()
        fewer = torch.randint(1, books + 1, (n,), generator=rng, device=device)
        coin = torch.rand(n, generator=rng, device=device) < share
        return (torch.where(coin, fewer, books),)

    def _perplexities(self, numbers: Tensor) -> dict[str, Tensor]:
        """How many codes are in use, were they equally frequent; of every book."""
        found = {}
        for i, column in enumerate(numbers.reshape(-1, self.config.books).unbind(1), 1):
            p = torch.bincount(column, minlength=self.config.codes) / column.numel()
            found[f"perplexity_{i}"] = torch.exp(-torch.special.xlogy(p, p).sum())
        return found if self.config.books > 1 else {"perplexity": found["perplexity_1"]}

    def _draw(self, e: Tensor) -> Tensor:
        """Vectors `(n, h, w, dim)` → images `(n, C, H, W)`."""
        return self.decoder(e.movedim(-1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → codes `(n, length)` int64."""
        return self.codebook.search(self.features(x)).flatten(1)

    def decode(self, codes: Tensor, books: int | None = None) -> Tensor:
        """Codes `(n, length)` → images in the spec's range `(n, C, H, W)`, by the first `books` books."""
        # The length of a vector is written out, so that pruning what one graph needs of it (the decoder) does
        # not leave the other (the encoder) behind.
        c = self.config
        if c.books > 1:
            codes = codes.reshape(codes.shape[0], self.grid[0] * self.grid[1], c.books)[..., :books]
        e = self.codebook.look_up(codes).reshape(codes.shape[0], *self.grid, c.dim)
        return self._draw(e)

    def graphs(self) -> dict[str, Graph]:
        codes = Port("codes", (1, self.length), "int64", high=self.config.codes)
        return {
            "prior": self.prior.graph(),
            "decoder": Graph("decoder", View(self, "decode"), (codes,), ("x",)),
            "encoder": Graph(
                "encoder", View(self, "encode"), (Port("x", (1, *self.spec.shape)),), ("codes",)
            ),
        }

    def sampler(self) -> Sampler:
        draw = OneShot(None, "decoder", ("codes",))
        return Cascade((self._reading(), draw), ("codes",)).override(**self.config.sampling)

    def _reading(self) -> Autoregressive:
        """Codes, one after another."""
        return Autoregressive(
            length=self.length, first=self.config.codes, graph="prior",
            conditions=tuple(self.conditions),
        )  # fmt: skip

    def programs(self) -> dict[str, Program]:
        """`codec` codes pictures by their codes, with loss."""
        codes = ValueSpec("vector", (self.length,), "T", Tokens(self.config.codes))
        coding = DirectCoding.of(self._reading(), read="encoder", draw="decoder")
        return {
            **super().programs(),
            "encode": Program(OneShot(None, "encoder", ("x",)), {"x": ConditionSpec(self.spec.x)}, codes),
            "decode": Program(
                OneShot(None, "decoder", ("codes",)), {"codes": ConditionSpec(codes)}, self.spec.x
            ),
            CODEC: Program(coding, {"x": ConditionSpec(self.spec.x), **self.conditions}, BITS),
        }
