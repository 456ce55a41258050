"""Which settings of a training its weights follow from."""

from __future__ import annotations

from typing import Any

from niwaki.training.config import TrainConfig
from niwaki.training.schedules import build_schedule, followed

__all__ = ["identity", "validation_decides"]

_FREE = {
    "log_every", "checkpoint_every", "validate_every", "keep", "validation_batches",
    "activation_checkpointing", "activation_offload", "remember",
}  # fmt: skip
"""Settings that do not touch the weights, as long as no validation decides over them."""

_ADDED = {
    "skip", "optimizers", "validation_batches", "early_stopping", "keep_best",
    "freeze", "init_from", "init_only", "losses", "watch", "adapters",
    "init_rename", "init_partial", "curriculum", "average", "post_hoc", "prefer",
    "balance", "drop_path", "mix", "pretrain",
}  # fmt: skip
"""Settings that came after the first trainings were recorded; at their defaults no record holds them."""


def validation_decides(config: TrainConfig) -> bool:
    """Whether the weights follow from what validations measure."""
    stages = [config.of_stage(s) for s in config.all_stages]
    return any(s.keep_best or s.early_stopping or followed(build_schedule(s.schedule)) for s in stages)


def identity(config: TrainConfig) -> dict[str, Any]:
    """The settings that the trained weights depend on, as JSON."""
    values = config.model_dump(mode="json")
    stages = [config.of_stage(s) for s in config.all_stages]
    free = set(_FREE)
    if not any(s.watch is not None and s.watch.stop for s in stages):
        free.add("watch")
    if validation_decides(config):
        values["validate_every"] = config.validate_every or config.checkpoint_every
        free -= {"validate_every", "validation_batches"}
    defaults = TrainConfig.model_validate({}).model_dump(mode="json")
    return {k: v for k, v in values.items() if k not in free and not (k in _ADDED and v == defaults[k])}
