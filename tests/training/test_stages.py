"""Stages: what is frozen stays to the bit, what earlier stages made is used averaged, weights come from
elsewhere."""

from __future__ import annotations

import pytest
import torch
from training_toys import TwoStages

from niwaki.core.store import hash_tensors, write_tensors
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.weights import stored_weights
from niwaki_runtime.errors import NiwakiError

STAGES = (
    StageConfig(name="codec", steps=12),
    StageConfig(name="prior", steps=8, lr=0.1, freeze=("codec",)),
)
CONFIG = TrainConfig(batch=8, lr=0.01, ema=0.9, log_every=4, checkpoint_every=6, keep=9, stages=STAGES)


def test_the_frozen_part_is_the_average_that_the_first_stage_ended_with(vectors, tmp_path):
    model = TwoStages()
    result = fit(model, vectors, CONFIG, seed=0, directory=tmp_path)
    assert result.steps == 20
    border = next(p for p in list_checkpoints(tmp_path / "checkpoints") if p.name == "step-0000012")
    after_first = stored_weights(border)
    codec = {n: t for n, t in model.state_dict().items() if n.startswith("codec.")}
    for name, value in codec.items():
        assert torch.equal(value, after_first[name]), name
    assert result.frozen == {"prior/codec": hash_tensors(codec)}
    assert not torch.equal(model.prior.weight, after_first["prior.weight"])


def test_later_stages_have_their_own_rate_and_a_fresh_schedule(vectors):
    rates = {}

    def note(step, total, last):
        rates[step] = {n: v for n, v in last.items() if n.startswith("lr/")}

    fit(TwoStages(), vectors, CONFIG.model_copy(update={"log_every": 1}), seed=0, progress=note)
    assert rates[1] == {"lr/codec": 0.01}
    assert rates[13] == {"lr/prior": 0.1}
    assert rates[17]["lr/prior"] == pytest.approx(0.05)


def test_a_stage_starts_from_a_model_a_checkpoint_or_a_run(vectors, tmp_path):
    first = TwoStages()
    alone = CONFIG.model_copy(update={"stages": (STAGES[0], StageConfig(name="prior", steps=1))})
    fit(first, vectors, alone, seed=0, directory=tmp_path / "run")
    write_tensors(tmp_path / "saved" / "model.safetensors", first.state_dict())
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    for source in (tmp_path / "run", tmp_path / "run" / "checkpoints", newest, tmp_path / "saved"):
        model = TwoStages()
        untouched = model.prior.weight.detach().clone()
        begun = StageConfig(
            name="prior", steps=1, lr=0.0, init_from=str(source), init_only=("codec",), freeze=("codec",)
        )
        stages = (StageConfig(name="codec", steps=1, lr=0.0), begun)
        fit(model, vectors, TrainConfig(batch=8, stages=stages, ema=0.5), seed=0)
        for name, value in first.codec.state_dict().items():
            assert torch.equal(model.codec.state_dict()[name], value), (source, name)
        assert torch.equal(model.prior.weight, untouched)


@pytest.mark.parametrize(
    ("stored", "only", "message"),
    [
        ({"codec.0.weight": (2, 4)}, ("codec",), "lacks 'codec.0.bias'"),
        ({"codec.0.weight": (2, 5)}, (), r"shape \(2, 5\)"),
        ({"decoder.weight": (2, 5)}, (), "holds 'decoder.weight', which the model does not have"),
        ({"prior.bias": (2,)}, ("priors",), "no weights under priors; did you mean 'prior"),
        (None, (), "neither model.safetensors nor a checkpoint"),
    ],
)
def test_weights_that_do_not_fit_are_named(vectors, tmp_path, stored, only, message):
    if stored is not None:
        write_tensors(tmp_path / "model.safetensors", {n: torch.zeros(s) for n, s in stored.items()})
    begun = StageConfig(name="codec", steps=1, init_from=str(tmp_path), init_only=only)
    config = TrainConfig(batch=8, stages=(begun, StageConfig(name="prior", steps=1)))
    with pytest.raises(NiwakiError, match=message):
        fit(TwoStages(), vectors, config, seed=0)
