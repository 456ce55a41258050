"""How strongly views differ."""

from __future__ import annotations

from pydantic import Field

from niwaki.core.base_config import BaseConfig

__all__ = ["Augment"]


class Augment(BaseConfig):
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
    color:      of images with several channels (clips keep theirs): largest factor 1 ± color of how far each
                channel lies from their mean, offset of each channel by up to a fifth of it as a share of the
                range, and a fifth of the views in grey. Otherwise an encoder of photographs looks at nothing
                but their colours, which two crops of one share (Chen et al. 2020, section 3.1)
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
    Tokens: shift, mask (of the places), and cutout, whose stretch is that of another sample
    Clips (T, H, W): as images, the same for every frame; shift in time as well
    """

    shift: float = Field(default=0.1, ge=0, le=1)
    crop: float = Field(default=0.75, gt=0, le=1)
    zoom: float = Field(default=0.1, ge=0, le=1)
    rotate: float = Field(default=15.0, ge=0, le=180)
    flip: bool = False
    brightness: float = Field(default=0.1, ge=0, le=1)
    contrast: float = Field(default=0.3, ge=0, le=1)
    color: float = Field(default=0.5, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    cutout: float = Field(default=0.25, ge=0, lt=1)
    amplitude: float = Field(default=0.3, ge=0, le=1)
    jitter: float = Field(default=0.1, ge=0, le=1)
    mask: float = Field(default=0.3, ge=0, lt=1)
