"""Settings of a discriminator, and those that all adversarial models of one generator share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from niwaki.models.gan.objectives import OBJECTIVES
from niwaki.models.registry import ModelConfig
from niwaki.nn.augment.config import Augment

__all__ = ["AdversarialConfig", "AdversaryConfig", "Gamma", "Objectives"]

Objectives = Literal["non_saturating", "minimax", "hinge", "least_squares", "wasserstein", "relativistic"]

Gamma = Annotated[float, Field(ge=0)] | Literal["auto"]

_OFF = {
    "shift": 0.0,
    "crop": 1.0,
    "zoom": 0.0,
    "rotate": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "cutout": 0.0,
    "amplitude": 0.0,
    "jitter": 0.0,
    "mask": 0.0,
}
"""Of `augment`, unless it is named."""


class AdversaryConfig(ModelConfig):
    """
    objective:        what both play for: `non_saturating`, `minimax`, `hinge`, `least_squares`,
                      `wasserstein` or `relativistic`
    critic_steps:     updates of the discriminator for each of the generator, each on a batch of its own where
                      there are several
    r1:               γ of γ/2 · E‖∇D‖² on real samples; `auto` is a rule from the data (`gamma_rule`)
    r2:               the same on made samples
    r1_every:         both are computed in every so many steps, and weighted by as much
    gradient_penalty: λ of λ · E(‖∇D‖ − 1)² between real and made samples
    clip:             after every step the discriminator's weights are brought into ±clip; 0 leaves them
    spectral:         every layer of the discriminator is divided by its largest singular value
    drift:            weight of E D(x)² over real samples, which keeps logits near 0 where only their
                      differences count (Karras et al. 2018, Appendix A.1)
    label_smoothing:  s of the target 1 − s for real samples
    instance_noise:   deviation, as a share of the range, of the noise that the discriminator's inputs get; it
                      falls to 0 in a straight line over the training
    augment:          random views that the discriminator sees instead of real and made samples alike
                      (Zhao et al. 2020, DiffAugment); what is not named in it is off
    augment_target:   with it the share of samples that are changed follows the training (Karras et al. 2020,
                      ADA): up while E sign D(x) lies above this target, else down; 0 changes all of them
    """

    objective: Objectives = "non_saturating"
    critic_steps: int = Field(1, ge=1)
    r1: Gamma = 1.0
    r2: Gamma = 0.0
    r1_every: int = Field(16, ge=1)
    gradient_penalty: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0)
    spectral: bool = False
    drift: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    instance_noise: float = Field(0.0, ge=0)
    augment: Augment | None = None
    augment_target: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _what_is_not_named_is_off(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("augment"), dict):
            values = {**values, "augment": {**_OFF, **values["augment"]}}
        return values

    @model_validator(mode="after")
    def _smooths_where_it_can(self) -> Self:
        if self.label_smoothing and not OBJECTIVES[self.objective].smooths:
            raise ValueError(f"label_smoothing has no meaning for the objective '{self.objective}'")
        if self.augment_target and self.augment is None:
            raise ValueError("augment_target needs 'augment', which says what is changed")
        return self


class AdversarialConfig(AdversaryConfig):
    """
    feature_matching: weight of ‖E φ(x) − E φ(G(z))‖² in the generator's loss
    mode_seeking:     weight of the reciprocal of how far samples of the same class lie apart
    """

    feature_matching: float = Field(0.0, ge=0)
    mode_seeking: float = Field(0.0, ge=0)
