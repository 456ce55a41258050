"""The VQ-regularized autoencoder of latent diffusion (VQGAN's first stage, Esser, Rombach & Ommer 2021;
Rombach et al. 2022, Section 3.1): latents are real maps, which the decoder quantizes before it decodes."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    Real,
    Tokens,
    ValueSpec,
    View,
)
from niwaki.models.hybrid.sharp import Sharp, SharpConfig
from niwaki.models.registry import register
from niwaki.models.vae.autoencoder import SpatialDecoder, halving_layers
from niwaki.models.vae.codebooks import CODEBOOKS, Codebook, Kind, revival_is_due
from niwaki.nn.layers.images import image_shape, to_signed
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["VqAutoencoder", "VqAutoencoderConfig"]


class VqAutoencoderConfig(SharpConfig):
    """
    latent:     channels of the latents, the length of a code's vector
    halvings:   how often height and width are halved
    width:      channels at full size; doubled at every halving
    upsampling: `nearest` (+ convolution) or `transposed`
    codes:      how many there are
    codebook:   `learned` by its own loss, `averaged` (running means), or `levelled` (FSQ)
    beta:       weight of the commitment term
    revive:     steps after which codes that nobody chose are moved to latents of the batch; 0 never does
    batches:    batches that the first codes are found from
    other settings: as in `SharpConfig`; no class is looked at
    """

    latent: int = Field(4, ge=1)
    halvings: int = Field(2, ge=1)
    width: int = Field(16, ge=1)
    upsampling: str = "nearest"
    codes: int = Field(256, ge=2)
    codebook: Kind = "averaged"
    beta: float = Field(0.25, ge=0)
    revive: int = Field(50, ge=0)
    batches: int = Field(8, ge=1)


@register("vq-autoencoder")
class VqAutoencoder(Sharp):
    """An encoder to maps of a few channels, and a decoder that replaces each place by the nearest code.

    It is made to be stood on: `encode` gives the maps as they are before, so that a denoiser need not hit a
    code exactly. Its own `sample` draws every place by itself.

    config: VqAutoencoderConfig
    spec:   images `(C, H, W)`, height and width multiples of 2^halvings
    """

    Config = VqAutoencoderConfig
    config: VqAutoencoderConfig
    classes = 0

    def __init__(self, config: VqAutoencoderConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        c, (channels, height, width) = config, image_shape(spec, self.name)
        if height % 2**c.halvings or width % 2**c.halvings:
            raise CallError(
                f"{height}×{width} pixels cannot be halved {c.halvings} times; lower model.halvings"
            )
        body, last = halving_layers(channels, c.width, c.halvings)
        self.encoder = nn.Sequential(*body, nn.Conv2d(last, c.latent, 1))
        self.codebook: Codebook = CODEBOOKS[c.codebook](c.codes, c.latent, c.beta)
        self.decoder = SpatialDecoder(
            channels, latent=c.latent, width=c.width, halvings=c.halvings, upsampling=c.upsampling,
            unit=False, low=spec.low, high=spec.high,
        )  # fmt: skip
        self.prepare_sharpness()

    @property
    def latent(self) -> ValueSpec:
        """What z is."""
        _, height, width = self.spec.shape
        down = 2**self.config.halvings
        shape = (self.config.latent, height // down, width // down)
        return ValueSpec("image", shape, "CHW", Real(-math.inf, math.inf))

    def phases(self) -> tuple[Phase, ...]:
        learned = ("codebook",) if next(self.codebook.parameters(), None) is not None else ()
        return (self.autoencoder_phase("encoder", "decoder", *learned), *self.adversary_phases())

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """The first codes are the centres of the latents of the first batches."""
        super().begin_stage(ctx, batches)
        if ctx.is_begun(self.codebook, used_by=self.encoder):
            return
        z = torch.cat([self._places(self.encode(batches(k).x)) for k in range(self.config.batches)])
        self.codebook.begin(z, ctx.rng)

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        if revival_is_due(ctx, self.config.revive):
            self.codebook.revive(self._places(self.encode(batch.x)), ctx.rng)
        return batch

    def after_step(self, ctx: Context) -> None:
        super().after_step(ctx)
        self.codebook.update()

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        if phase != "autoencoder":
            return self.adversary_loss(phase, batch, ctx)
        e, numbers, terms = self.codebook(self._places(self.encode(batch.x)))
        made = self.decoder(e.movedim(-1, 1))
        reconstruction = (to_signed(made, self.spec) - to_signed(batch.x, self.spec)).float().square().mean()
        p = torch.bincount(numbers.flatten(), minlength=self.config.codes) / numbers.numel()
        ctx.log(perplexity=torch.exp(-torch.special.xlogy(p, p).sum()))
        return {
            "reconstruction": reconstruction,
            **terms,
            **self.sharpness(reconstruction, made, batch, ctx),
        }

    def fake(self, batch: Batch, ctx: Context) -> Tensor:
        return self.decode(self.encode(batch.x))

    def encode(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → latents `(n, latent, h, w)`, not yet quantized."""
        return self.encoder(to_signed(x, self.spec))

    def code(self, x: Tensor) -> Tensor:
        """x `(n, C, H, W)` → the number of each place's code, row by row `(n, h·w)` int64."""
        return self.codebook.search(self._places(self.encode(x))).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Latents `(n, latent, h, w)` → pictures in the spec's range of the codes nearest to them."""
        e = self.codebook.look_up(self.codebook.search(self._places(z)))
        return self.decoder(e.movedim(-1, 1))

    def _places(self, z: Tensor) -> Tensor:
        """`(n, latent, h, w)` → `(n, h, w, latent)`"""
        return z.movedim(1, -1)

    def graphs(self) -> dict[str, Graph]:
        z, x = Port("z", (1, *self.latent.shape)), Port("x", (1, *self.spec.shape))
        return {
            "decoder": Graph("decoder", View(self, "decode"), (z,)),
            "encoder": Graph("encoder", View(self, "encode"), (x,), ("z",)),
            "coder": Graph("encoder", View(self, "code"), (x,), ("codes",)),
        }

    def sampler(self) -> Sampler:
        return OneShot(self.latent.shape, "decoder").override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample`; `encode` gives latents before they are quantized, `decode` quantizes and decodes; `code`
        says by which codes."""
        x, z = {"x": ConditionSpec(self.spec.x)}, {"z": ConditionSpec(self.latent)}
        _, height, width = self.latent.shape
        codes = ValueSpec("vector", (height * width,), "T", Tokens(self.config.codes))
        return {
            **super().programs(),
            "encode": Program(OneShot(graph="encoder", conditions=("x",)), x, self.latent),
            "decode": Program(OneShot(graph="decoder", conditions=("z",)), z, self.spec.x),
            "code": Program(OneShot(graph="coder", conditions=("x",)), x, codes),
        }
