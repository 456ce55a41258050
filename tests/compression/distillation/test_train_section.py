"""How fine-tuning trains is a `TrainConfig`; what stands beside it, as recipes wrote it, means the same."""

from __future__ import annotations

import pytest

from niwaki.compression import DistillConfig, FinetuneConfig
from niwaki.core.errors import CallError
from niwaki.training import TrainConfig

FLAT = {
    "steps": 7, "batch": 16, "lr": 0.01, "betas": (0.1, 0.2), "warmup": 3, "clip": 0.5, "ema": 0.7,
    "precision": "fp32", "device": "cpu",
}  # fmt: skip


def test_both_ways_of_writing_are_one():
    assert FinetuneConfig(**FLAT) == FinetuneConfig(train=FLAT)
    assert DistillConfig(evaluations=2, **FLAT).train == FinetuneConfig(**FLAT).train
    assert FinetuneConfig(train=TrainConfig(**FLAT)).train == TrainConfig(**FLAT)


def test_what_is_left_out_is_as_it_always_was():
    train = FinetuneConfig().train
    expected = {"steps": 500, "batch": 128, "lr": 2e-3, "betas": (0.9, 0.99), "warmup": 20, "ema": 0.99}
    assert train == TrainConfig(**expected)
    assert FinetuneConfig(train={"steps": 3}).train == train.model_copy(update={"steps": 3})


def test_it_is_written_as_recipes_have_it():
    """The same keys as before there was `train`, so that the hash of a finished step is the same."""
    plain = FinetuneConfig(**FLAT).model_dump()
    assert "train" not in plain
    assert {k: plain[k] for k in FLAT} == FLAT
    config = FinetuneConfig(
        steps=3, train={"optimizers": {"default": {"name": "radam", "lr": 0.1}}, "losses": ()}
    )
    written = config.model_dump(mode="json")
    assert written["train"] == {"optimizers": {"default": {"name": "radam", "lr": 0.1}}}
    assert FinetuneConfig.model_validate(written) == config
    assert config.lr == 0.1


def test_what_is_written_last_counts():
    """As overrides are added to a recipe that is written out in full."""
    written = FinetuneConfig(**FLAT).model_dump(mode="json")
    assert FinetuneConfig.model_validate({**written, "train": {"lr": 0.5, "clip": 2.0}}).lr == 0.5
    assert FinetuneConfig.model_validate({"train": {"lr": 0.5}, **written}).lr == FLAT["lr"]
    named = {"train": {"optimizers": {"default": {"name": "lion", "lr": 0.3}}}}
    assert FinetuneConfig.model_validate({**written, **named}).lr == 0.3


def test_a_copy_changes_settings_in_short():
    config = FinetuneConfig(train={"optimizers": {"default": {"name": "radam", "lr": 0.1}}})
    changed = config.model_copy(update={"lr": 0.2, "steps": 3, "own_lr": 0.5})
    assert (changed.lr, changed.steps, changed.train.steps, changed.own_lr) == (0.2, 3, 3, 0.5)
    assert type(changed.train.optimizer_config()).__name__ == "RAdam"
    assert (config.lr, config.steps) == (0.1, 500)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"stages": [{"name": "a", "steps": 1}]}}, "write several steps instead of 'stages'"),
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"train": {"stepz": 1}}, "train.stepz"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(CallError, match=message):
        FinetuneConfig(**settings)
