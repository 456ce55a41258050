"""Parts of a model that a training would leave as chance made them."""

from __future__ import annotations

from niwaki.core.contract import Trainable
from niwaki.training.begun import trained_before
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.stages import under
from niwaki.training.weights import sources_of

__all__ = ["left_to_chance"]


def left_to_chance(model: Trainable, config: TrainConfig) -> tuple[str, ...]:
    """Names of parts (first words of parameters) in which weights are trained by no phase of any stage, or
    frozen in all of them, and come from no `init_from`: an autoencoder, a base or a network to compare by
    whose run was forgotten."""
    trained = trained_before(model, config, len(config.all_stages))
    trainings: tuple[TrainConfig | StageConfig, ...] = (config, *config.stages)
    sources = [source for one in trainings for source in sources_of(one)]
    if any(not source.prefix and not source.only for source in sources):
        return ()  # all that the model has may come from there
    given = tuple(name for source in sources for name in ((source.prefix,) if source.prefix else source.only))
    left = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and name not in trained and not (given and under(name, given))
    ]
    return tuple(dict.fromkeys(name.partition(".")[0] for name in left))
