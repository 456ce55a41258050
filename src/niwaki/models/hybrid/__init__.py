"""Models of two families at once."""

from niwaki.models.hybrid.kl_autoencoder import KlAutoencoder, KlAutoencoderConfig
from niwaki.models.hybrid.vae_gan import VaeGan, VaeGanConfig
from niwaki.models.hybrid.vq_autoencoder import VqAutoencoder, VqAutoencoderConfig

__all__ = [
    "KlAutoencoder",
    "KlAutoencoderConfig",
    "VaeGan",
    "VaeGanConfig",
    "VqAutoencoder",
    "VqAutoencoderConfig",
]
