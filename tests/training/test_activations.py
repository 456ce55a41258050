"""Training in less memory: the same bits, with fewer activations kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from training_toys import Adversaries

from niwaki import models
from niwaki.core.contract import CallError, DataSpec, Phase, Trainable
from niwaki.training import TrainConfig, fit
from niwaki.training.activations import checkpoint_blocks, offloading, release_blocks

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)


class Blocks(Trainable):
    """Blocks with everything that a second pass could change: dropout, batch statistics, a spectral norm."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.4))
            for _ in range(3)
        )

    def phases(self):
        return (Phase("fit", ("blocks",)),)

    def loss(self, phase, batch, ctx):
        h = batch.x
        for block in self.blocks:
            h = h + block(h)
        return {"square": (h.float() - 1.0).square().mean()}


def trained(model, split, **settings):
    torch.manual_seed(3)
    made = model()
    fit(
        made,
        split,
        TrainConfig.model_validate({"steps": 5, "batch": 8, "lr": 0.05, "watch": None, **settings}),
        seed=0,
    )
    return made.state_dict()


@pytest.mark.parametrize(
    ("model", "names"), [(Blocks, True), (Blocks, ["blocks.1"]), (Adversaries, ["generator", "critic"])]
)
def test_weights_and_buffers_come_out_with_the_same_bits(model, names, vectors):
    """Also where a penalty is differentiated twice, and where blocks have buffers that every pass changes."""
    plain, again = trained(model, vectors), trained(model, vectors, activation_checkpointing=names)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_offloaded_activations_give_the_same_bits(vectors):
    plain, again = trained(Blocks, vectors), trained(Blocks, vectors, activation_offload=True)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_only_the_inputs_of_blocks_are_kept():
    """Bytes saved for the backward pass of a U-Net, counted as autograd saves them."""
    torch.manual_seed(0)
    model = models.build("ddpm", {"widths": [16, 32], "blocks": 2, "attention": []}, DIGITS)
    x, t = torch.randn(16, 1, 8, 8), torch.rand(16)
    kept = []

    def bytes_kept():
        seen: dict[int, int] = {}

        def pack(tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model.denoiser(x, t, torch.zeros(16, dtype=torch.int64)).sum()
        kept.append(out)
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        return sum(size for place, size in seen.items() if place not in weights)

    plain = bytes_kept()
    names = checkpoint_blocks(model, True)
    less = bytes_kept()
    release_blocks(model)
    assert names
    assert less < 0.6 * plain
    assert bytes_kept() == plain
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("names", "said"),
    [(["block"], "names 'block', which is no module; did you mean 'blocks'"), (["blocks.7"], "is no module")],
)
def test_a_name_that_is_no_module_is_refused(names, said):
    with pytest.raises(CallError, match=said):
        checkpoint_blocks(Blocks(), names)


def test_a_model_without_blocks_says_what_can_be_named():
    with pytest.raises(CallError, match=r"no list of blocks; name modules: \[generator, critic\]"):
        checkpoint_blocks(Adversaries(), True)


def test_nothing_is_left_behind(vectors):
    model = Blocks()
    fit(model, vectors, TrainConfig(steps=1, batch=8, activation_checkpointing=True), seed=0)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_off_is_nothing():
    assert checkpoint_blocks(Blocks(), False) == []
    with offloading(False, torch.device("cpu")):
        pass
