"""Generative adversarial networks."""

from niwaki.models.gan.cyclegan import CycleGan, CycleGanConfig
from niwaki.models.gan.dcgan import Dcgan, DcganConfig

__all__ = ["CycleGan", "CycleGanConfig", "Dcgan", "DcganConfig"]
