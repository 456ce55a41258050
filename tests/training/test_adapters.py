"""Training with low-rank adapters: the base stays, resuming is exact, what is left are plain weights."""

from __future__ import annotations

import pytest
import torch
from test_resume import Crash, Failing, same_end
from training_toys import Adversaries, Regression, TwoStages

from niwaki.core.store import read_tensors, write_tensors
from niwaki.nn.low_rank import adapted, is_adapter, merge_adapter
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki_runtime.errors import CallError

LORA = {"name": "lora", "rank": 1, "alpha": 2.0}


def config(**settings) -> TrainConfig:
    return TrainConfig.model_validate(
        {"steps": 12, "batch": 8, "lr": 0.05, "precision": "fp32", "adapters": LORA, **settings}
    )


def made(cls=Regression):
    torch.manual_seed(0)
    return cls()


class Looking(Regression):
    """Notes what has a gradient, and that the base is where it was."""

    def after_step(self, ctx) -> None:
        self.open = {n for n, p in self.named_parameters() if p.requires_grad}
        self.inside = {n: t.clone() for n, t in self.state_dict().items()}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_only_adapters_are_trained_and_they_are_part_of_the_weights_in_the_end(vectors, kind) -> None:
    model, base = made(Looking), made().state_dict()
    fit(model, vectors, config(adapters={**LORA, "name": kind}, ema=0.0), seed=0)
    assert model.open
    assert all(is_adapter(n) for n in model.open)
    assert all(torch.equal(model.inside[n], t) for n, t in base.items()), "the base is not moved"
    assert model.state_dict().keys() == base.keys()
    assert not any(adapted(model))
    assert all(p.requires_grad for p in model.parameters())
    change = model.net[0].weight - base["net.0.weight"]
    assert float(change.detach().abs().max()) > 1e-3
    if kind == "lora":
        assert int(torch.linalg.matrix_rank(change.detach().double(), rtol=1e-5)) == 1
    assert torch.equal(model.net[0].bias, base["net.0.bias"])


def test_what_is_named_is_trained_beside_them(vectors) -> None:
    model, base = made(), made().state_dict()
    fit(model, vectors, config(adapters={**LORA, "on": ["net.0"], "also": ["net.*.bias"]}), seed=0)
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, base[n])}
    assert moved == {"net.0.weight", "net.0.bias", "net.2.bias"}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_crashed_training_ends_with_the_same_bits(vectors, tmp_path, kind) -> None:
    adapters = {**LORA, "name": kind, "also": ["net.2"]}
    settings = config(adapters=adapters, ema=0.9, log_every=4, checkpoint_every=5)
    whole = made()
    fit(whole, vectors, settings, seed=1, directory=tmp_path / "whole", batches=Failing(vectors, -1))
    halted = made()
    with pytest.raises(Crash):
        fit(halted, vectors, settings, seed=1, directory=tmp_path / "two", batches=Failing(vectors, 8))
    assert halted.state_dict().keys() == made().state_dict().keys(), "the adapters are taken off"
    resumed = made()
    fit(
        resumed, vectors, settings, seed=1, directory=tmp_path / "two", resume=True,
        batches=Failing(vectors, -1),
    )  # fmt: skip
    same_end(tmp_path / "whole", tmp_path / "two")
    files = [tmp_path / d / "adapters" / "main.safetensors" for d in ("whole", "two")]
    one, two = map(read_tensors, files)
    assert all(torch.equal(t, two[n]) for n, t in one.items())
    for n, t in whole.state_dict().items():
        assert torch.equal(t, resumed.state_dict()[n])


def test_what_is_kept_alone_gives_the_averaged_model_again(vectors, tmp_path) -> None:
    model, again = made(), made()
    fit(model, vectors, config(ema=0.5), seed=0, directory=tmp_path)
    assert merge_adapter(again, tmp_path / "adapters" / "main.safetensors") == ("net.0", "net.2")
    for n, t in again.state_dict().items():
        assert torch.allclose(t, model.state_dict()[n], atol=1e-6)


def test_each_stage_has_its_own_and_the_next_one_stands_on_the_sum(vectors, tmp_path) -> None:
    stages = (
        StageConfig(name="codec", steps=4),
        StageConfig(name="prior", steps=4, adapters={**LORA, "name": "dora"}),
    )
    settings = TrainConfig(batch=8, lr=0.05, precision="fp32", ema=0.5, stages=stages, adapters=LORA)
    model = made(TwoStages)
    statistics = model.codec[1].running_mean.clone()
    fit(model, vectors, settings, seed=0, directory=tmp_path)
    base = made(TwoStages)
    assert not torch.equal(base.codec[0].weight, model.codec[0].weight)
    for stage in ("codec", "prior"):
        merge_adapter(base, tmp_path / "adapters" / f"{stage}.safetensors")
    for n, t in base.state_dict().items():
        assert torch.allclose(t, model.state_dict()[n], atol=1e-6), n
    assert torch.equal(model.codec[1].running_mean, statistics), "batch norms of the base rest"


def test_magnitudes_begin_at_the_weights_that_were_taken_over(vectors, tmp_path) -> None:
    source = Regression()
    with torch.no_grad():
        source.net[0].weight.mul_(5.0)
    write_tensors(tmp_path / "model.safetensors", source.state_dict())
    model = made()
    settings = config(adapters={**LORA, "name": "dora"}, init_from=str(tmp_path), lr=0.0)
    fit(model, vectors, settings, seed=0)
    assert torch.equal(model.net[0].weight, source.net[0].weight)


@pytest.mark.parametrize(
    ("cls", "adapters", "message"),
    [
        (Regression, {"on": ["nett"]}, "train.adapters.on names 'nett', which fits no layer"),
        (Regression, {"also": ["nett"]}, "train.adapters.also names 'nett'"),
        (Adversaries, {"on": ["generator"]}, r"'critic' has no parameters left.*train.adapters \(on, also\)"),
    ],
)
def test_what_fits_nothing_is_refused_in_a_sentence(vectors, cls, adapters, message) -> None:
    with pytest.raises(CallError, match=message):
        fit(made(cls), vectors, config(adapters={**LORA, **adapters}), seed=0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(CallError, match="there is no adapter 'lorra'"):
        config(adapters={"name": "lorra"})
