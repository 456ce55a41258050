"""Which weights have a past when a stage begins."""

from __future__ import annotations

from niwaki.core.contract import Trainable
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.stages import under
from niwaki.training.weights import sources_of

__all__ = ["taken_before", "trained_before"]


def trained_before(model: Trainable, config: TrainConfig, index: int) -> set[str]:
    """Names of the parameters that the stages before the one of that index train."""
    trained: set[str] = set()
    for stage in config.all_stages[:index]:
        settings = config.of_stage(stage)
        if settings.pretrain is not None:
            continue  # nothing has been made for what its encoder says
        frozen, adapters = settings.freeze, settings.adapters
        for phase in model.phases():
            if phase.in_stage(stage.name):
                trained |= {
                    name
                    for name, _ in model.named_parameters()
                    if under(name, phase.parameters)
                    and not under(name, frozen)
                    and (adapters is None or adapters.trains(name))
                }
    return trained


def taken_before(model: Trainable, config: TrainConfig, index: int) -> set[str]:
    """Names of the tensors that `init_from` has set for the stages before the one of that index. What
    `init_partial` took is known only to the stage that took it, and left out."""
    taken: set[str] = set()
    earlier: tuple[TrainConfig | StageConfig, ...] = (config, *config.stages[:index]) if index else ()
    for source in (source for one in earlier for source in sources_of(one) if not source.partial):
        names = (source.prefix,) if source.prefix else source.only
        taken |= {name for name in model.state_dict() if not names or under(name, names)}
    return taken
