"""MAE: He et al., "Masked autoencoders are scalable vision learners", CVPR 2022."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase
from niwaki.features.encoders import Encoder, EncoderConfig, register_encoder
from niwaki.features.patches import Block, choose_patch, patchify, positions
from niwaki.nn.augment.views import Augment, augment
from niwaki.nn.layers.grids import AVERAGE, grid_of

__all__ = ["Mae", "MaeConfig", "hidden_patches", "masked_error", "masked_nll", "random_mask"]


class MaeAugment(Augment):
    """As `Augment`, but nothing except a crop, as in the paper: what is painted again should not be changed
    much."""

    shift: float = Field(default=0.0, ge=0, le=1)
    crop: float = Field(default=0.85, gt=0, le=1)
    zoom: float = Field(default=0.0, ge=0, le=1)
    rotate: float = Field(default=0.0, ge=0, le=180)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    color: float = Field(default=0.0, ge=0, le=1)
    cutout: float = Field(default=0.0, ge=0, lt=1)
    amplitude: float = Field(default=0.0, ge=0, le=1)
    jitter: float = Field(default=0.0, ge=0, le=1)
    mask: float = Field(default=0.0, ge=0, lt=1)


class MaeConfig(EncoderConfig):
    """
    patch:         side of a patch in places (pixels, steps, tokens); None chooses one by the samples' size
    width:         length of a patch's vector in the encoder; images have 4·width features, series 2·width,
                   one for each half of each side
    depth, heads:  of the encoder; the decoder has as many heads
    decoder_width, decoder_depth: of the decoder, which is thrown away afterwards
    masked:        share of the patches that is hidden. The paper hides 0.75 of 196; of the sixteen of a small
                   image that leaves too few (digits, 600 steps: 20 neighbours know 82 % with 0.75, 91 % with
                   0.5)
    normalize:     the target is each patch's values less their mean, over their deviation; not of tokens
    """

    patch: int | None = Field(None, ge=1)
    width: int = Field(64, ge=4, multiple_of=4)
    depth: int = Field(3, ge=1)
    heads: int = Field(4, ge=1)
    decoder_width: int = Field(64, ge=4, multiple_of=4)
    decoder_depth: int = Field(1, ge=1)
    masked: float = Field(0.5, gt=0, lt=1)
    normalize: bool = False
    augment: MaeAugment = MaeAugment()


@register_encoder("mae")
class Mae(Encoder):
    """Learns to paint the hidden patches of a sample from the visible ones: amounts by their squared error,
    tokens by their probability.

    Its encoder sees the visible patches only; to give features it sees all of them.
    """

    Config = MaeConfig
    batch = 128
    views = 1

    place: Tensor
    place_inner: Tensor

    def __init__(self, config: MaeConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        for part, length in (("width", config.width), ("decoder_width", config.decoder_width)):
            if length % config.heads:
                raise CallError(
                    f"'mae': {config.heads} heads do not divide a {part} of {length}; change 'model.{part}'"
                )
        self.patch, grid = choose_patch(spec, config.patch, self.name)
        width, inner = config.width, config.decoder_width
        self.grid, cells = grid, tuple(min(2, g) for g in grid)
        self.dim = width * math.prod(cells)
        self.pool = AVERAGE[len(grid)](cells)
        front, channels = grid_of(spec).front(width)
        places = self.patch ** len(grid)
        values = channels * places
        painted = spec.levels * places if spec.is_tokens else values
        self.front = nn.Sequential(*front)
        self.embed = nn.Linear(values, width)
        self.encoder = nn.Sequential(*(Block(width, config.heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width)
        self.bridge = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(0.02 * torch.randn(inner))
        self.decoder = nn.Sequential(*(Block(inner, config.heads) for _ in range(config.decoder_depth)))
        self.paint = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, painted))
        self.register_buffer("place", positions(grid, width), persistent=False)
        self.register_buffer("place_inner", positions(grid, inner), persistent=False)

    @classmethod
    def refuse(cls, spec: DataSpec) -> None:
        super().refuse(spec)
        if not grid_of(spec).sides:
            raise CallError(
                f"'mae' cuts samples into patches, and a {spec.modality} of shape {spec.shape} has none; use "
                "'simclr' or 'moco'"
            )
        choose_patch(spec, None, cls.name)

    def phases(self) -> tuple[Phase, ...]:
        parts = ("front", "embed", "encoder", "norm", "bridge", "mask_token", "decoder", "paint")
        return (Phase("paint", parts),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        x = augment(batch.x, self.spec, self.config.augment, ctx.rng)
        patches = self.patches(x)
        n, count, _ = patches.shape
        visible, mask = random_mask(n, count, hidden_patches(count, self.config.masked), ctx.rng)
        painted = self.reconstruct(patches, visible)
        if self.spec.is_tokens:
            return {"nll": masked_nll(painted, patchify(x[:, None], self.patch), mask)}
        return {"error": masked_error(painted, self._target(patches), mask)}

    def patches(self, x: Tensor) -> Tensor:
        """Samples (n, *shape) as patches (n, N, values), those of tokens of their vectors."""
        return patchify(self.front(self.units(x)), self.patch)

    def reconstruct(self, patches: Tensor, visible: Tensor) -> Tensor:
        """All patches, painted from those at `visible` alone: (n, N, values), (n, kept) → (n, N, values); of
        tokens logits (n, N, places·levels)."""
        seen = patches.gather(1, _along(visible, patches.shape[2]))
        encoded = self.bridge(self._encode(self.embed(seen) + self.place[visible]))
        empty = self.mask_token.to(encoded.dtype).expand(*patches.shape[:2], -1)
        tokens = empty.scatter(1, _along(visible, encoded.shape[2]), encoded)
        return self.paint(self.decoder(tokens + self.place_inner))

    def features(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, dim): the means over the patches of each quarter of an image (each half of a
        series), all patches visible.

        The mean over all patches knows less of where things are (digits, 900 steps: 20 neighbours know 81 %
        with it, 93 % with the quarters). On its natural scale: the last layer is a LayerNorm, so the length
        hardly varies.
        """
        tokens = self._encode(self.embed(self.patches(x)) + self.place)
        laid_out = tokens.transpose(1, 2).unflatten(2, self.grid)
        return self.pool(laid_out).flatten(1)

    def _encode(self, tokens: Tensor) -> Tensor:
        return self.norm(self.encoder(tokens))

    def _target(self, patches: Tensor) -> Tensor:
        if not self.config.normalize:
            return patches
        mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True, unbiased=False)
        return (patches - mean) / (variance + 1e-6).sqrt()


def hidden_patches(count: int, share: float) -> int:
    """How many of `count` patches are hidden: the share, rounded, leaving at least one on each side."""
    return min(max(round(share * count), 1), count - 1)


def random_mask(n: int, count: int, hidden: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions of the visible patches `(n, count − hidden)`, and which are hidden `(n, count)` bool; drawn
    for every sample on its own."""
    order = torch.rand(n, count, generator=rng, device=rng.device).argsort(1)
    mask = torch.zeros(n, count, dtype=torch.bool, device=rng.device).scatter(1, order[:, -hidden:], True)
    return order[:, :-hidden], mask


def masked_error(painted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the values of the hidden patches alone (section 3, "Reconstruction target")."""
    error = (painted.float() - target).square().mean(2)
    return (error * mask).sum() / mask.sum()


def masked_nll(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of −log p over the tokens of the hidden patches alone, in nats: BERT's loss (Devlin et al., NAACL
    2019) with whole patches hidden.

    logits: `(n, N, places·levels)`; target: `(n, N, places)`, whole numbers
    """
    rows = logits[mask].float().unflatten(1, (target.shape[2], -1))
    return F.cross_entropy(rows.flatten(0, 1), target[mask].flatten())


def _along(index: Tensor, width: int) -> Tensor:
    """(n, k) → (n, k, width): the index of whole rows."""
    return index[:, :, None].expand(-1, -1, width)
