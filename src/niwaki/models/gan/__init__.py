"""Generative adversarial networks."""

from niwaki.models.gan.dcgan import Dcgan, DcganConfig

__all__ = ["Dcgan", "DcganConfig"]
