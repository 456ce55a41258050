"""Settings of a variational autoencoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from niwaki.models.registry import ModelConfig

__all__ = ["VaeConfig"]


class VaeConfig(ModelConfig):
    """
    latent:      length of z
    width:       channels at full size; doubled at every halving
    hidden:      width of the encoder's last hidden layer
    embedding:   length of a class embedding
    upsampling:  `nearest` (+ convolution) or `transposed`
    likelihood:  `bernoulli` (grey values are probabilities) or `gaussian` (one learned standard deviation)
    beta:        weight of the KL term; 1 is the ELBO
    warmup:      share of training over which β rises from 0
    importance:  samples of z that the objective takes for each x: 1 is the ELBO, more the tighter bound of
                 Burda et al. 2016
    bound:       samples that the program `log_prob` takes; 0: as many as the objective
    total_correlation: weight of the total correlation within the KL term (β of Chen et al. 2018); 1 is the
                 ELBO, more parts the latents
    """

    latent: int = Field(16, ge=1)
    width: int = Field(32, ge=1)
    hidden: int = Field(256, ge=1)
    embedding: int = Field(16, ge=1)
    upsampling: Literal["nearest", "transposed"] = "nearest"
    likelihood: Literal["bernoulli", "gaussian"] = "gaussian"
    beta: float = Field(1.0, ge=0)
    warmup: float = Field(0.0, ge=0, le=1)
    importance: int = Field(1, ge=1, exclude_if=lambda value: value == 1)
    bound: int = Field(0, ge=0, exclude_if=lambda value: not value)
    total_correlation: float = Field(1.0, ge=0, exclude_if=lambda value: value == 1.0)
