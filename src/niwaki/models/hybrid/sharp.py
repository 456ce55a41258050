"""What makes an autoencoder sharp: errors in the features of a network that looks at pictures, and a
discriminator of patches (Esser, Rombach & Ommer 2021; Rombach et al. 2022, Appendix G)."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, Phase
from niwaki.models.gan.adversary import Adversary
from niwaki.models.gan.config import AdversaryConfig, Gamma, Objectives
from niwaki.models.gan.losses import adaptive_weight
from niwaki.models.gan.translators import PatchCritic
from niwaki.nn.layers.shrinking import backbone
from niwaki.nn.perceptual import perceptual_distance

__all__ = ["Sharp", "SharpConfig"]


class SharpConfig(AdversaryConfig):
    """
    perceptual:   weight of the distance in the layers of `perceptual`, the network of a SimCLR or MoCo
                  encoder: its weights come by `train.init_from: {perceptual: "runs/…:backbone"}` and stay as
                  they are; 0 for none
    encoder_width, encoder_features: of that network, as in the encoder's own recipe
    adversarial:  weight of the adversarial term beside the adaptive one; 0 for no discriminator
    starts:       share of the training after which it counts
    critic_width: channels of the discriminator after its first halving
    other settings: those of the discriminator, as in `AdversaryConfig`
    """

    perceptual: float = Field(0.0, ge=0)
    encoder_width: int = Field(64, ge=16, multiple_of=16)
    encoder_features: int = Field(128, ge=2)
    adversarial: float = Field(0.0, ge=0)
    starts: float = Field(0.25, ge=0, le=1)
    critic_width: int = Field(32, ge=1)
    objective: Objectives = "hinge"
    r1: Gamma = 0.0


class Sharp(Adversary):
    """An autoencoder of pictures whose `decoder` ends in a layer `output`. A subclass calls
    `prepare_sharpness` in its constructor and adds `sharpness` to its loss.
    """

    config: SharpConfig
    decoder: nn.Module

    def prepare_sharpness(self) -> None:
        """Make the networks that the settings ask for."""
        c, channels = self.config, self.spec.shape[0]
        if c.perceptual:
            self.perceptual = backbone(self.spec, c.encoder_width, c.encoder_features)
        if c.adversarial:
            self.oppose(PatchCritic(channels, c.critic_width))

    def sharpness(
        self, reconstruction: Tensor, made: Tensor, batch: Batch, ctx: Context
    ) -> dict[str, Tensor]:
        """Terms beside the error of pixels `reconstruction`, a scalar of the pictures `made` of the batch.
        The adversarial one is a matter of training: on held-out data it measures nothing."""
        c, terms = self.config, {}
        if c.perceptual:
            terms["perceptual"] = c.perceptual * perceptual_distance(self.perceptual, batch.x, made)
        if c.adversarial:
            self.hand_on(made, ctx)
            if self.training and ctx.progress >= c.starts:
                logits = self.discriminator(self._seen(made, ctx), None).float()
                term = self.adversarial_term(logits, batch, ctx)
                wanted = sum(terms.values(), reconstruction)
                weight = adaptive_weight(wanted, term, self.decoder.output.weight)  # type: ignore[arg-type,union-attr]
                ctx.log(adaptive_weight=weight)
                terms["generator"] = c.adversarial * weight * term
        return terms

    def autoencoder_phase(self, *parameters: str) -> Phase:
        """The phase that trains them; it asks for gradients within the loss where the weight is adaptive."""
        return Phase("autoencoder", parameters, double_backward=self.config.adversarial > 0)

    def adversary_phases(self) -> tuple[Phase, ...]:
        return super().adversary_phases() if self.config.adversarial else ()

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        if self.config.adversarial:
            super().begin_stage(ctx, batches)

    def after_step(self, ctx: Context) -> None:
        if self.config.adversarial:
            super().after_step(ctx)

    def realness(self, batch: Batch) -> Tensor | None:  # type: ignore[override]
        return super().realness(batch) if self.config.adversarial else None
