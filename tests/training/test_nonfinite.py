"""A NaN stops the training, is named, and never reaches a checkpoint."""

from __future__ import annotations

import pytest
import torch
from training_toys import Poisoned, Regression

from niwaki.core.contract import Batch, DataSpec
from niwaki.core.store import read_tensors
from niwaki.data import Feeder, Split
from niwaki.training import NotFinite, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.nonfinite import all_finite
from niwaki_runtime.errors import NiwakiError

CONFIG = TrainConfig(steps=40, batch=8, lr=0.01, log_every=7, checkpoint_every=5, keep=3)

WHERE = {
    "module": "the output of the module 'spoiler' (Spoiler)",
    "term": "the loss term 'size' (and no module before it)",
    "gradient": "the gradient of 'second.bias' (but not the loss)",
}


@pytest.mark.parametrize("where", list(WHERE))
@pytest.mark.parametrize("kept", [True, False])
def test_the_origin_the_phase_and_the_step_are_named(vectors, tmp_path, where, kept):
    model = Poisoned(where, at=18)
    with pytest.raises(NotFinite) as found:
        fit(model, vectors, CONFIG, seed=0, directory=tmp_path if kept else None)
    assert (found.value.where, found.value.phase, found.value.step) == (WHERE[where], "main", 18)
    assert all_finite(list(model.parameters()))
    if not kept:
        return
    checkpoints = list_checkpoints(tmp_path / "checkpoints")
    assert [p.name for p in checkpoints] == ["step-0000005", "step-0000010", "step-0000015"]
    assert str(checkpoints[-1]) in str(found.value)
    assert all_finite(list(read_tensors(checkpoints[-1] / "state.safetensors").values()))
    model.at = -1  # the cause removed, the training goes on from there
    healthy = Poisoned("nowhere", at=-1)
    assert fit(healthy, vectors, CONFIG, seed=0, directory=tmp_path, resume=True).completed
    assert all_finite(list(healthy.parameters()))


@pytest.mark.parametrize("at", [1, 5, 7, 40])
def test_the_first_and_the_last_step_are_no_exception(vectors, tmp_path, at):
    with pytest.raises(NotFinite, match=f"'main', step {at};"):
        fit(Poisoned("gradient", at), vectors, CONFIG, seed=0, directory=tmp_path)


def test_a_rate_that_blows_up_is_told_from_a_bad_gradient(vectors):
    with pytest.raises(NotFinite, match=r"the weight 'net.*after its update"):
        fit(Regression(), vectors, TrainConfig(steps=5, batch=8, lr=1e39, precision="fp32"), seed=0)


def test_broken_data_is_called_so():
    x = torch.randn(32, 4)
    x[5, 2] = float("inf")
    split = Split.of(DataSpec.of("vector", (4,)), x)
    step = next(k for k in range(9) if 5 in Feeder(split, 8, seed=0).index(k).tolist()) + 1
    with pytest.raises(NotFinite, match=f"in the data, phase 'fit', step {step}"):
        fit(Regression(), split, TrainConfig(steps=9, batch=8), seed=0)


def test_broken_initial_weights_are_called_so(vectors, tmp_path):
    model = Regression()
    torch.nn.init.constant_(model.net[0].weight, float("nan"))
    with pytest.raises(NiwakiError, match="the initial weights are broken"):
        fit(model, vectors, CONFIG, seed=0, directory=tmp_path)


class Masking(Regression):
    """An additive mask of −∞ in a module's output is what attention does; it is no fault."""

    class Mask(torch.nn.Module):
        def forward(self, x):
            return x.masked_fill(x < 0, float("-inf"))

    def __init__(self):
        super().__init__()
        self.mask = self.Mask()

    def loss(self, phase: str, batch: Batch, ctx):
        weights = torch.softmax(self.mask(torch.cat([batch.x, torch.ones(len(batch), 1)], 1)), 1)
        out = self.net(batch.x).float() * weights[:, :1]
        if ctx.step == 10:
            out = out + torch.sqrt(out.sum() * 0.0)
        return {"size": out.square().mean()}


def test_masks_of_minus_infinity_are_not_blamed(vectors):
    with pytest.raises(NotFinite, match=r"the gradient of 'net\.2.bias'"):
        fit(Masking(), vectors, TrainConfig(steps=20, batch=8, precision="fp32"), seed=0)
