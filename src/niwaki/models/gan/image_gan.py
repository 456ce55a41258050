"""What GANs of two convolutional pyramids have in common: their settings, and which network gets which."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from niwaki.models.gan.adversarial import AdversarialModel
from niwaki.models.gan.config import AdversarialConfig

__all__ = ["ImageGan", "ImageGanConfig"]


class ImageGanConfig(AdversarialConfig):
    """
    latent:    length of z
    embedding: length of a class embedding in the generator
    width:     channels at full size; doubled at every halving, up to `max_width`
    max_width: most channels
    features:  length of the discriminator's feature vector φ(x)
    deviation: group size of the minibatch standard deviation, 0 for none
    """

    latent: int = Field(64, ge=1)
    embedding: int = Field(32, ge=1)
    width: int = Field(32, ge=1)
    max_width: int = Field(256, ge=1)
    features: int = Field(256, ge=1)
    deviation: int = Field(4, ge=0)


class ImageGan(AdversarialModel):
    """An adversarial model of images; a subclass makes its networks of these settings and its own."""

    config: ImageGanConfig

    def generator_settings(self) -> dict[str, Any]:
        """Of a network from latents and classes to images in the range of the data."""
        c = self.config
        return {
            "latent": c.latent,
            "classes": self.classes,
            "embedding": c.embedding,
            **self.pyramid_settings(),
        }

    def pyramid_settings(self) -> dict[str, Any]:
        """Of what makes images in the range of the data."""
        c = self.config
        return {"width": c.width, "most": c.max_width, "low": self.spec.low, "high": self.spec.high}

    def critic_settings(self, width: int = 0) -> dict[str, Any]:
        """Of a network from images to logits; width: its channels at full size, 0 is the generator's."""
        c = self.config
        return {
            "classes": self.classes,
            "width": width or c.width,
            "most": c.max_width,
            "features": c.features,
            "deviation": c.deviation,
            "bias": self.objective.levelled,
        }
