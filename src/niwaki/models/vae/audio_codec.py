"""Sound as a few codes for each frame (after SoundStream, Zeghidour et al. 2021, and EnCodec, Défossez et al.
2022), and a transformer that writes them."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError, DataSpec
from niwaki.models.registry import register
from niwaki.models.vae.book_codes import BookCodes, BookCodesConfig
from niwaki.models.vae.codebooks import Kind
from niwaki.nn.layers.framed import FrameBlock, Frames, Steps
from niwaki.nn.layers.images import Squash, to_signed
from niwaki.nn.spectra import spectral_distance

__all__ = ["AudioCodec", "AudioCodecConfig"]


class AudioCodecConfig(BookCodesConfig):
    """
    strides: of the convolutions from sound to frames; a frame has as many steps as their product
    width:   channels of the frames; half as many before the last stride, a quarter before the one before …
    blocks:  residual ones after each stride
    kernel:  of a block, in frames; odd
    spectra: sizes of the windows by which what is decoded is compared; longer ones than the sound are left
             out
    waveform: weight of the relative squared error of the sound itself, beside its spectra's
    """

    codes: int = Field(256, ge=2)
    dim: int = Field(32, ge=1)
    codebook: Kind = "averaged"
    books: int = Field(4, ge=1)
    quantizer_dropout: float = Field(0.25, ge=0, le=1)
    prior_width: int = Field(128, ge=1)
    strides: tuple[int, ...] = (80,)
    width: int = Field(192, ge=1)
    blocks: int = Field(3, ge=0)
    kernel: int = Field(3, ge=1)
    spectra: tuple[int, ...] = (64, 128, 256, 512)
    waveform: float = Field(8.0, ge=0)

    @field_validator("strides", "spectra")
    @classmethod
    def _positive(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or min(values) < 1:
            raise ValueError("must be one or more numbers from 1 on")
        return values

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd: as many frames before as after")
        return kernel


@register("audio-codec")
class AudioCodec(BookCodes):
    """Each frame is said by a code of each of several books; with fewer books it is said more coarsely.

    config: AudioCodecConfig
    spec:   sound `(T,)` or `(C, T)`; beyond its end, up to a whole frame, there is silence
    """

    Config = AudioCodecConfig
    config: AudioCodecConfig
    example_spec = DataSpec.of("audio", (64,), classes=8)

    @property
    def channels(self) -> int:
        return self.spec.size // self.spec.shape[-1]

    def _widths(self) -> list[int]:
        """Channels of the sound, and after each stride."""
        width, count = self.config.width, len(self.config.strides)
        return [self.channels, *(max(1, width // 2 ** (count - 1 - i)) for i in range(count))]

    def make_encoder(self) -> tuple[nn.Sequential, tuple[int, ...]]:
        spec, c = self.spec, self.config
        if spec.axes not in ("T", "CT") or spec.is_tokens or not math.isfinite(spec.high - spec.low):
            raise CallError(
                f"'{self.name}' codes sound between two bounds (T); this data set holds {spec.modality} of "
                f"shape {spec.shape}"
            )
        layers: list[nn.Module] = []
        for (a, b), stride in zip(pairwise(self._widths()), c.strides, strict=True):
            layers += [Frames(a, b, stride), *self._blocks(b)]
        length = -(-spec.shape[-1] // math.prod(c.strides))
        return nn.Sequential(*layers, nn.Linear(c.width, c.dim)), (length,)

    def make_decoder(self) -> nn.Sequential:
        c = self.config
        layers: list[nn.Module] = [Frames(c.dim, c.width, 1)]
        for (a, b), stride in zip(pairwise(self._widths()[::-1]), c.strides[::-1], strict=True):
            layers += [*self._blocks(a), Steps(a, b, stride)]
        return nn.Sequential(*layers, Squash(self.spec.low, self.spec.high))

    def _blocks(self, width: int) -> list[nn.Module]:
        return [FrameBlock(width, 2 * width, self.config.kernel) for _ in range(self.config.blocks)]

    def features(self, x: Tensor) -> Tensor:
        length = self.spec.shape[-1]
        rest = self.grid[0] * math.prod(self.config.strides) - length
        sound = to_signed(x, self.spec).reshape(x.shape[0], self.channels, length)
        return self.encoder(F.pad(sound, (0, rest)).transpose(1, 2))

    def _draw(self, e: Tensor) -> Tensor:
        sound = self.decoder(e).transpose(1, 2)[..., : self.spec.shape[-1]]
        return sound.reshape(e.shape[0], *self.spec.shape)

    def reconstruction(self, made: Tensor, x: Tensor) -> dict[str, Tensor]:
        """By the sound's own steps and by its spectra, neither of which says what is heard (Défossez et al.
        2022, Section 3.4)."""
        error = (made - x).square().mean() / x.square().mean().clamp(min=1e-8)
        sizes = [size for size in self.config.spectra if size <= x.shape[-1]]
        terms = {"waveform": self.config.waveform * error}
        if sizes:
            one, other = (v.reshape(-1, v.shape[-1]) for v in (made, x.float()))
            terms["spectrum"] = spectral_distance(one, other, sizes)
        return terms
