"""VQ-VAE (van den Oord, Vinyals & Kavukcuoglu 2017): images as a few codes, and a prior that writes them."""

from __future__ import annotations

from niwaki.models.registry import register, register_preset
from niwaki.models.vae.book_codes import BookCodes, BookCodesConfig
from niwaki.models.vae.coded_images import CodedImages, CodedImagesConfig

__all__ = ["VqVae", "VqVaeConfig"]


class VqVaeConfig(BookCodesConfig, CodedImagesConfig):
    """Settings of the codes, and of the networks that code images."""


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

register_preset(
    "maskgit",
    "vqvae",
    "MaskGIT (Chang et al. 2022): the codes of a VQ-VAE, several in each of eight steps",
    codebook="averaged",
    prior="masked",
)


register_preset(
    "dalle",
    "vqvae",
    "DALL·E (Ramesh et al. 2021): a caption, then the codes of a picture, one after another",
    codebook="averaged",
    mean_start=True,
    text_width=64,
    conditioning={"drop": 0.1},
)

register_preset(
    "muse",
    "vqvae",
    "Muse (Chang et al. 2023): MaskGIT from a caption, several codes in each of twelve steps",
    codebook="averaged",
    mean_start=True,
    prior="masked",
    prior_steps=12,
    text_width=64,
    conditioning={"drop": 0.1},
)


@register("vqvae")
class VqVae(BookCodes, CodedImages):
    """Each place of the grid is said by a code, or by one of each of several books.

    config: VqVaeConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config = VqVaeConfig
    config: VqVaeConfig
