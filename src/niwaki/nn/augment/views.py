"""Random views of a sample: what an encoder is to take for the same thing.

All of it is drawn from one `torch.Generator`, so the same generator gives the same views. The geometry of
images and series (crop, scale, rotation, shift) is one affine map and one `grid_sample` for the whole batch.
Flips are off: a mirrored letter is another letter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from niwaki.core.contract import DataSpec

__all__ = ["Augment", "augment"]


class Augment(BaseModel):
    """How strong each change is; 0 leaves it out.

    Images (C, H, W):
    shift:      largest displacement along each axis, as a share of the side
    crop:       smallest share of the side that a crop keeps, before it is resized to the whole; 1 crops
                nothing. Series: of the length
    zoom:       height and width apart from each other by factors of up to 1 + zoom
    rotate:     largest angle in degrees
    flip:       mirror left and right in half of the views
    brightness: largest offset, as a share of the range
    contrast:   largest factor 1 ± contrast about the sample's mean
    blur:       largest weight of a copy blurred by a binomial kernel, 0 … 1
    noise:      largest deviation of normal noise, as a share of the range. Blur and noise are off: an encoder
                that was taught not to see them cannot measure them in samples
    cutout:     side of a square that is painted with the sample's mean, as a share of the side. Series: of
                the length (DeVries & Taylor 2017)
    Series (C, L): shift, crop, cutout, and
    amplitude:  largest factor 1 ± amplitude of each channel, about its mean
    jitter:     largest deviation of normal noise, as a share of the range. Vectors: of each column's own
                deviation
    Vectors (d,): jitter, and
    mask:       share of the columns that take the value of another sample of the batch (Bahri et al.,
                "SCARF", ICLR 2022)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: float = Field(default=0.1, ge=0, le=1)
    crop: float = Field(default=0.75, gt=0, le=1)
    zoom: float = Field(default=0.1, ge=0, le=1)
    rotate: float = Field(default=15.0, ge=0, le=180)
    flip: bool = False
    brightness: float = Field(default=0.1, ge=0, le=1)
    contrast: float = Field(default=0.3, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    cutout: float = Field(default=0.25, ge=0, lt=1)
    amplitude: float = Field(default=0.3, ge=0, le=1)
    jitter: float = Field(default=0.1, ge=0, le=1)
    mask: float = Field(default=0.3, ge=0, lt=1)


def augment(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    """A random view of every sample: `(n, *shape)` → the same shape, in [low, high], float32.

    rng: on the device of `x`
    """
    kind = {1: _vectors, 2: _series, 3: _images}[x.dim() - 1]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return kind(x.float(), spec, how, rng).clamp_(spec.low, spec.high)


def _vectors(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    n = len(x)
    if how.mask and n > 1:
        other = _integers(1, n, x.shape, rng) + torch.arange(n, device=x.device)[:, None]
        taken = _uniform(x.shape, rng) < how.mask
        x = torch.where(taken, x.gather(0, other % n), x)
    if how.jitter and n > 1:
        x = x + _level(how.jitter, x, rng) * x.std(0) * _normal(x.shape, rng)
    return x


def _series(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    n, channels, length = x.shape
    if how.shift or how.crop < 1:
        scale = _between(how.crop, 1.0, n, rng)
        offset = _offset(scale, how.shift, n, rng)
        # A series is an image of one row: `grid_sample` knows no 1-D.
        along = torch.linspace(-1, 1, length, device=x.device) if length > 1 else x.new_zeros(1)
        grid = torch.stack([along * scale[:, None] + offset[:, None], x.new_zeros(n, length)], -1)
        x = _sample(x[:, :, None], grid[:, None]).squeeze(2)
    if how.amplitude:
        factor = _between(1 - how.amplitude, 1 + how.amplitude, (n, channels, 1), rng)
        mean = x.mean(2, keepdim=True)
        x = (x - mean) * factor + mean
    if how.cutout:
        x = torch.where(_hole(length, how.cutout, n, rng)[:, None], x.mean(2, keepdim=True), x)
    return _noisy(x, spec, how.jitter, rng)


def _images(x: Tensor, spec: DataSpec, how: Augment, rng: torch.Generator) -> Tensor:
    n, _, height, width = x.shape
    if how.shift or how.crop < 1 or how.zoom or how.rotate or how.flip:
        theta = _affine(n, height, width, how, rng)
        x = _sample(x, F.affine_grid(theta, list(x.shape), align_corners=True))
    mean = x.mean((1, 2, 3), keepdim=True)
    if how.contrast:
        x = (x - mean) * _between(1 - how.contrast, 1 + how.contrast, (n, 1, 1, 1), rng) + mean
    if how.brightness:
        most = how.brightness * (spec.high - spec.low)
        x = x + _between(-most, most, (n, 1, 1, 1), rng)
    if how.blur:
        x = torch.lerp(x, _binomial(x), _between(0.0, how.blur, (n, 1, 1, 1), rng))
    x = _noisy(x, spec, how.noise, rng)
    if how.cutout:
        rows, columns = _hole(height, how.cutout, n, rng), _hole(width, how.cutout, n, rng)
        x = torch.where((rows[:, :, None] & columns[:, None])[:, None], mean, x)
    return x


def _affine(n: int, height: int, width: int, how: Augment, rng: torch.Generator) -> Tensor:
    """Where each view looks, in coordinates −1 … 1 of the image: `(n, 2, 3)`, rotation · zoom and an
    offset."""
    scale = _between(how.crop, 1.0, n, rng)
    apart = (1 + how.zoom) ** _between(-0.5, 0.5, n, rng)
    wide, high = scale * apart, scale / apart
    if how.flip:
        wide = torch.where(_uniform((n,), rng) < 0.5, -wide, wide)
    angle = _between(-how.rotate, how.rotate, n, rng) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    aspect = max(height - 1, 1) / max(width - 1, 1)  # a rotation of pixels, not of the unit square
    dx, dy = (_offset(scale, how.shift, n, rng) for _ in range(2))
    rows = [wide * cos, -high * sin * aspect, dx, wide * sin / aspect, high * cos, dy]
    return torch.stack(rows, 1).view(n, 2, 3)


def _offset(scale: Tensor, shift: float, n: int, rng: torch.Generator) -> Tensor:
    """A crop anywhere inside the sample, then the shift; both in units of half the side."""
    return _between(-1.0, 1.0, n, rng) * (1 - scale) + _between(-2 * shift, 2 * shift, n, rng)


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    """Bilinear; what lies outside repeats the edge."""
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _binomial(x: Tensor) -> Tensor:
    """(1 2 1)/4 along both axes, edges repeated."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def _noisy(x: Tensor, spec: DataSpec, most: float, rng: torch.Generator) -> Tensor:
    if not most:
        return x
    return x + _level(most, x, rng) * (spec.high - spec.low) * _normal(x.shape, rng)


def _level(most: float, x: Tensor, rng: torch.Generator) -> Tensor:
    """A strength of its own for every sample, 0 … most."""
    return _between(0.0, most, (len(x), *[1] * (x.dim() - 1)), rng)


def _hole(side: int, share: float, n: int, rng: torch.Generator) -> Tensor:
    """Whether each position lies in the stretch that is cut out `(n, side)`."""
    length = max(1, round(share * side))
    start = _integers(0, side - length + 1, (n, 1), rng)
    at = torch.arange(side, device=rng.device)
    return (at >= start) & (at < start + length)


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device)


def _integers(low: int, high: int, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=rng, device=rng.device)


def _between(low: float, high: float, shape: int | tuple[int, ...], rng: torch.Generator) -> Tensor:
    shape = (shape,) if isinstance(shape, int) else shape
    return low + (high - low) * _uniform(shape, rng)
