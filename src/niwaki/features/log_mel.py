"""Log-mel features of sound: how loud each band is, how much it changes, and how fast. Nothing is trained."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset
from niwaki.features.extractor import NetworkExtractor
from niwaki.modalities.spectrum import FLOOR, Frames, frames_of, mel_bands

__all__ = ["LogMel", "log_mel_features", "needs_sound"]

_FIT = 4096
"""Training samples that the scale of the features is taken from."""


class LogMel(nn.Module):
    """(n, *shape) → (n, 3·channels·bands): over time, of every band in dB, the mean, the deviation, and the
    mean size of a change from frame to frame; each brought to mean 0 and deviation 1 of training samples."""

    window: Tensor
    bands: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.frames: Frames = frames_of(spec.x)
        self.middle, self.radius = (spec.low + spec.high) / 2, (spec.high - spec.low) / 2
        self.dim = 3 * self.frames.bands * (spec.size // spec.shape[-1])
        self.register_buffer("window", torch.from_numpy(self.frames.window).float())
        self.register_buffer("bands", torch.from_numpy(mel_bands(self.frames)).float())
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(self.dim))

    def spectra(self, x: Tensor) -> Tensor:
        """(n, *shape) → bands in dB (n, channels, bands, times), as `niwaki.modalities.spectrum.log_mel`."""
        u = (x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)) - self.middle
        n, channels, length = u.shape
        spectrum = torch.stft(
            (u / self.radius).reshape(n * channels, length), self.frames.size, self.frames.hop,
            window=self.window, pad_mode="constant", return_complex=True,
        )  # fmt: skip
        found = self.bands @ spectrum.abs().square()
        return 10 * found.clamp(min=FLOOR).log10().unflatten(0, (n, channels))

    def raw(self, x: Tensor) -> Tensor:
        each = self.spectra(x)
        moves = each.diff(dim=-1).abs() if each.shape[-1] > 1 else torch.zeros_like(each)
        return torch.cat([each.mean(-1), each.std(-1, correction=0), moves.mean(-1)], 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.raw(x) - self.mean) * self.scale

    @torch.no_grad()
    def fit_scale(self, x: Tensor) -> None:
        raw = torch.cat([self.raw(part) for part in x.split(256)]).double()
        self.mean.copy_(raw.mean(0))
        # What hardly varies (a band where nothing sounds) would be nothing but magnified rounding.
        deviation = raw.std(0, correction=0)
        self.scale.copy_(1.0 / deviation.clamp(min=1e-2 * float(deviation.max()) + 1e-6))


def needs_sound(dataset: Dataset) -> None:
    """Raises CallError for what is no sound: amounts over time between two bounds."""
    spec = dataset.spec
    if spec.axes not in ("T", "CT") or spec.is_tokens or not math.isfinite(spec.high - spec.low):
        raise CallError(f"log-mel features are of sound, and '{dataset.name}' holds {spec.modality}")


def log_mel_features(
    dataset: Dataset, *, cache: Path | None = None, device: str = "auto"
) -> NetworkExtractor:
    """The extractor `log-mel` for a data set. Raises CallError for what is no sound."""
    needs_sound(dataset)
    network = LogMel(dataset.spec)
    network.fit_scale(dataset.train.values(torch.arange(min(_FIT, len(dataset.train)))).cpu())
    settings = {"floor": FLOOR, **asdict(network.frames)}
    return NetworkExtractor(
        "log-mel", dataset.spec, network, dim=network.dim, settings=settings, cache=cache, device=device
    )
