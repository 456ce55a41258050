"""Losses of the user's own are terms of a phase like any other."""

from __future__ import annotations

import pytest
import torch
from training_toys import Adversaries, Regression, TwoStages

from niwaki.data import Split
from niwaki.training import NotFinite, StageConfig, TrainConfig, fit
from niwaki_runtime.errors import CallError

FP32 = {"precision": "fp32", "batch": 8, "lr": 0.01, "log_every": 5}


def own(function, **more):
    return {"call": f"user_functions:{function}", **more}


class WithSize(Regression):
    """What the recipe's loss is written into by hand."""

    def loss(self, phase, batch, ctx):
        return super().loss(phase, batch, ctx) | {"size": 0.3 * self.net(batch.x).float().square().mean()}


def test_it_is_the_term_one_would_write_into_the_model(vectors):
    torch.manual_seed(0)
    model, written = Regression(), WithSize()
    written.load_state_dict(model.state_dict())
    config = TrainConfig(steps=10, losses=[own("size", weight=0.6)], loss_weights={"size": 0.5}, **FP32)
    last = fit(model, vectors, config, seed=0).last
    fit(written, vectors, TrainConfig(steps=10, **FP32), seed=0)
    for name, value in written.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert last["fit/total"] == pytest.approx(last["fit/square"] + 0.3 * last["fit/size"], rel=1e-5)


def test_several_terms_of_one_function_are_recorded_by_name(vectors):
    last = fit(Regression(), vectors, TrainConfig(steps=5, losses=[own("several")], **FP32), seed=0).last
    assert last["fit/step"] == 2.0  # the mean of 0 … 4
    assert "fit/mean" in last


def test_it_belongs_to_its_phase(vectors):
    config = TrainConfig(steps=2, losses=[own("penalty", phase="critic")], **FP32)
    last = fit(Adversaries(), vectors, config, seed=0).last
    assert "critic/penalty" in last
    assert "generator/penalty" not in last


def test_it_is_part_of_the_held_out_loss(vectors):
    split = Split.of(vectors.spec, vectors.x[:16])
    torch.manual_seed(0)
    model = Regression()
    config = TrainConfig(steps=2, ema=0.0, losses=[own("size", weight=0.5)], **FP32)
    last = fit(model, vectors, config, seed=0, validation=split).last
    with torch.no_grad():
        out = model.net(split.x).squeeze(1)
    expected = (out - split.x.sum(1)).square().mean() + 0.5 * out.square().mean()
    assert last["validation/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_stage_may_have_its_own(vectors):
    losses = [{"call": "user_functions:fails", "phase": "prior"}]
    stages = (StageConfig(name="codec", steps=1), StageConfig(name="prior", steps=1, losses=losses))
    with pytest.raises(CallError, match="'user_functions' has no 'fails'"):
        fit(TwoStages(), vectors, TrainConfig(stages=stages, **FP32), seed=0)


def test_a_nan_in_it_is_traced_to_it(vectors):
    with pytest.raises(NotFinite, match=r"the loss term 'broken' of user_functions:broken \(and no module"):
        fit(Regression(), vectors, TrainConfig(steps=6, losses=[own("broken")], **FP32), seed=0)


@pytest.mark.parametrize(
    ("loss", "model", "message"),
    [
        ({"call": "no_such_module:f"}, Regression, "there is no module 'no_such_module'"),
        (own("siz"), Regression, "'user_functions' has no 'siz'; did you mean 'size'"),
        (own("number"), Regression, "is not a function but int"),
        (
            own("size", phase="fitt"),
            Regression,
            "the phase 'fitt', which the model has not; did you mean 'fit'",
        ),
        (own("size"), Adversaries, "must say which 'phase'"),
        (own("wrong"), Regression, "must return a scalar tensor or a dict of them, not list"),
        (own("square"), Regression, "returns the term 'square', as the model does; rename it"),
    ],
)
def test_what_cannot_be_had_is_said(vectors, loss, model, message):
    with pytest.raises(CallError, match=message):
        fit(model(), vectors, TrainConfig(steps=2, losses=[loss], **FP32), seed=0)


def test_the_working_directory_is_looked_into(vectors, tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(
        "def size(model, batch, ctx):\n    return model.net(batch.x).float().square().mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(steps=1, losses=[{"call": "my_losses:size"}], **FP32)
    assert "fit/size" in fit(Regression(), vectors, config, seed=0).last
