"""How a stage that tunes to a preference begins: the model as it was, frozen beside it."""

from __future__ import annotations

import copy

from niwaki.core.contract import GenerativeModel, Trainable
from niwaki.data import Split
from niwaki.nn.low_rank import strip
from niwaki.training.config import TrainConfig
from niwaki.training.preference.objective import Objective, build_objective
from niwaki.training.weights import init_from, sources_of
from niwaki_runtime.errors import CallError

__all__ = ["begin_preference", "check_preference"]


def check_preference(model: Trainable, config: TrainConfig) -> None:
    """Raises CallError where `config.prefer` cannot be done."""
    if config.prefer is None:
        return
    if not isinstance(model, GenerativeModel):
        raise CallError("train.prefer tunes models that make samples, and this one makes none")
    if config.init_from is None or config.init_partial:
        raise CallError(
            "train.prefer tunes a trained model, which stays beside it as the reference: name it whole in "
            "train.init_from"
        )
    if config.stages or config.devices > 1:
        raise CallError("train.prefer is a training of one stage on one device")


def begin_preference(model: Trainable, config: TrainConfig, split: Split, seed: int) -> Objective | None:
    """The objective of `config.prefer`, which follows from `init_from`, the split and the seed: a resumed
    training has the same. Raises CallError where `init_from` does not bring all weights."""
    if config.prefer is None:
        return None
    reference = copy.deepcopy(model)
    strip(reference)
    taken = {name for source in sources_of(config) for name in init_from(reference, source).names}
    left = [name for name, _ in reference.named_parameters() if name not in taken]
    if left:
        raise CallError(f"train.prefer needs the whole trained model, and train.init_from lacks '{left[0]}'")
    assert isinstance(reference, GenerativeModel)
    reference.requires_grad_(False).eval()
    return build_objective(config.prefer, reference, split, seed)
