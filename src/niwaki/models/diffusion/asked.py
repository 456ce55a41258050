"""What a denoiser is asked by, as its kind of network takes it."""

from __future__ import annotations

from collections.abc import Sequence

from niwaki.models.asked import Asked, label_columns, paired_columns, text_columns
from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.denoising import Denoising
from niwaki.models.diffusion.networks import Task, network_kind, network_settings

__all__ = ["AskedDenoiser", "label_columns", "text_columns"]


class AskedDenoiser(Asked, Denoising):
    """A denoiser that `prepare_conditions` tells what it is asked by, before its network is made."""

    config: DenoiserConfig

    def prepare_conditions(self, usual: Sequence[str], *, numbers: bool) -> None:
        """As `Asked.set_conditions`, by the encoder of the network's kind.

        usual: columns that are asked for unless the config names others
        """
        c = self.config
        named = c.conditioning.columns
        asked = tuple(usual) if named is None else tuple(n for n in named if n in paired_columns(self.spec))
        kind, settings = network_kind(c), network_settings(c)
        self.set_conditions(
            asked, lambda condition, blank: kind.encoder(c, settings, condition, blank), numbers=numbers
        )

    def task(self, channels: int, height: int, width: int) -> Task:
        """What the network is to do, of what is noised of that size."""
        more = {"estimate": self.config.self_conditioning, "variance": self.config.learns_variance}
        return Task(channels, height, width, self.classes, self.guided, self.encoded_shapes(), **more)

    def has_guide(self) -> bool:
        return self.config.weak is not None

    def trained_parts(self) -> tuple[str, ...]:
        return ("denoiser", "words") if len(self.words) else ("denoiser",)
