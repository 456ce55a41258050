"""Which settings an optimizer gets, and what its first steps are."""

from __future__ import annotations

import pytest
import torch
from training_toys import Adversaries, Regression

from niwaki.core.store import read_tensors
from niwaki.training import StageConfig, TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.identity import identity
from niwaki.training.lion import Lion
from niwaki.training.muon import orthogonalize
from niwaki.training.optimizers import build_optimizer, optimizer_class, optimizer_names
from niwaki_runtime.errors import CallError

BY_NAME = TrainConfig(
    optimizers={
        "default": {"name": "adamw", "lr": 1e-3, "betas": [0.5, 0.9], "weight_decay": 0.01},
        "critic": {"lr": 4e-3},
        "prior": {"name": "sgd", "nesterov": True},
    }
)


def test_an_entry_changes_single_settings_of_the_default():
    critic, default = BY_NAME.optimizer_config("critic"), BY_NAME.optimizer_config()
    assert type(critic) is type(default) is optimizer_class("adamw")
    assert critic == default.model_copy(update={"lr": 4e-3})
    assert BY_NAME.optimizer_config("generator") == default


def test_an_entry_of_another_optimizer_shares_rate_and_decay_alone():
    prior = BY_NAME.optimizer_config("prior")
    assert prior == optimizer_class("sgd")(lr=1e-3, weight_decay=0.01, momentum=0.9, nesterov=True)


@pytest.mark.parametrize("name", optimizer_names())
def test_the_shorthand_is_the_default(name):
    short = TrainConfig(optimizer=name, lr={"default": 0.1, "critic": 0.2}, weight_decay=0.3)
    long = TrainConfig(
        optimizers={"default": {"name": name, "lr": 0.1, "weight_decay": 0.3}, "critic": {"lr": 0.2}}
    )
    for which in ("default", "critic", "other"):
        assert short.optimizer_config(which) == long.optimizer_config(which)


def test_betas_mean_what_the_optimizer_makes_of_them():
    assert TrainConfig(optimizer="sgd", betas=(0.3, 0.9)).optimizer_config().momentum == 0.3
    assert TrainConfig(optimizer="lion", betas=(0.3, 0.9)).optimizer_config().betas == (0.3, 0.9)
    assert TrainConfig(optimizer="lion").optimizer_config().betas == (0.9, 0.99)  # its own, not Adam's


def test_a_config_written_out_in_full_reads_the_same():
    again = TrainConfig.model_validate(BY_NAME.model_dump(mode="json"))
    assert again == BY_NAME
    lion = TrainConfig(optimizer="lion")
    assert (
        TrainConfig.model_validate(lion.model_dump(mode="json")).optimizer_config() == lion.optimizer_config()
    )


def test_a_stage_changes_optimizers_by_name_and_in_shorthand():
    config = BY_NAME.model_copy(
        update={
            "stages": (
                StageConfig(name="a", steps=1, lr=0.5),
                StageConfig(name="b", steps=1, lr={"critic": 0.5}),
                StageConfig(name="c", steps=1, optimizers={"critic": {"betas": [0.1, 0.2]}}),
                StageConfig(name="d", steps=1, optimizer="rmsprop", weight_decay=0.0),
                StageConfig(name="e", steps=1, optimizers={"default": {"lr": 0.7}}),
            )
        }
    )
    a, b, c, d, e = (config.of_stage(s) for s in config.stages)
    assert [a.optimizer_config(n).lr for n in ("default", "critic", "prior")] == [0.5] * 3
    assert [b.optimizer_config(n).lr for n in ("default", "critic", "prior")] == [1e-3, 0.5, 1e-3]
    assert c.optimizer_config("critic") == BY_NAME.optimizer_config("critic").model_copy(
        update={"betas": (0.1, 0.2)}
    )
    assert d.optimizer_config("critic") == optimizer_class("rmsprop")(lr=4e-3)
    assert d.optimizer_config("prior").nesterov
    assert [e.optimizer_config(n).lr for n in ("default", "critic", "prior")] == [0.7, 4e-3, 0.7]
    short = TrainConfig(lr=0.1, stages=config.stages)
    assert [short.of_stage(s).optimizer_config().lr for s in config.stages] == [0.5, 0.1, 0.1, 0.1, 0.7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizers": {"default": {"name": "adma"}}}, "no optimizer 'adma'; did you mean 'adam"),
        ({"optimizers": {"critic": {"momentum": 0.5}}}, "train.optimizers.critic has no setting 'momentum'"),
        ({"optimizers": {"x": {"name": "sgd", "momentum": 1.5}}}, "'train.optimizers.x.momentum' must"),
        ({"lr": 0.1, "optimizers": {"default": {"lr": 0.2}}}, "'lr' is 0.1 and optimizers.default.lr is 0.2"),
        ({"optimizer": "sgd", "optimizers": {"default": {"name": "lion"}}}, "'optimizer' is sgd and"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises((CallError, ValueError), match=message):
        TrainConfig(**settings)


def test_an_optimizer_that_no_phase_uses_is_refused(vectors):
    config = TrainConfig(steps=1, batch=8, optimizers={"fitt": {"lr": 1.0}})
    with pytest.raises(CallError, match="no phase of this model uses it; did you mean 'fit'"):
        fit(Regression(), vectors, config, seed=0)


def test_lion_is_its_algorithm():
    """Algorithm 2 written out for one number, in float64, beside the optimizer."""
    p = torch.nn.Parameter(torch.tensor([[0.5, -0.25]], dtype=torch.float64))
    lr, b1, b2, decay = 0.1, 0.9, 0.5, 0.2
    lion = Lion([p], lr=lr, betas=(b1, b2), weight_decay=decay)
    expected, m = p.detach().clone(), torch.zeros_like(p)
    for k, g in enumerate(([[3.0, -0.1]], [[-40.0, 0.0]], [[0.5, 0.02]])):
        gradient = torch.tensor(g, dtype=torch.float64)
        p.grad = gradient.clone()
        lion.step()
        update = torch.sign(b1 * m + (1 - b1) * gradient)
        if k == 0:
            assert torch.equal(update, gradient.sign())
        expected = expected * (1 - lr * decay) - lr * update
        m = b2 * m + (1 - b2) * gradient
        torch.testing.assert_close(p.detach(), expected, rtol=1e-14, atol=1e-14)
        assert torch.equal(p.grad, gradient)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 4, 3, 3)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape):
    """Rows (of a convolution: output channels) point in their own directions, which U Vᵀ keeps."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(g)
    s = torch.linalg.svdvals(found.flatten(1))
    assert float(s.min()) > 0.6
    assert float(s.max()) < 1.3
    u, _, v = torch.linalg.svd(g.flatten(1), full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), 0)
    assert float(cosine) > 0.97


@pytest.mark.parametrize("fast, off", [(False, 1e-4), (True, 0.1)])
def test_matrices_are_orthogonalized_in_bfloat16_only_where_that_is_fast(monkeypatch, fast, off):
    """Emulated bfloat16 took six times as long as float32, and most of a training's time."""
    monkeypatch.setattr("niwaki.training.muon.has_bf16", lambda device: fast)
    g = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    exact = g.double() / g.double().norm()
    for _ in range(5):
        gram = exact @ exact.mT
        exact = 3.4445 * exact + (-4.7750 * gram + 2.0315 * gram @ gram) @ exact
    error = float((orthogonalize(g) - exact).abs().max())
    assert (error > 1e-4) == fast
    assert error < off


def test_muon_turns_matrices_between_layers_and_leaves_the_rest_to_adamw():
    """Its first step of a matrix has the size of Adam's, lr · 0.2 √max(rows, columns) per singular direction;
    what `others` names and what has one dimension takes the steps of torch's AdamW."""
    made = lambda *shape: torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))  # noqa: E731
    names = {"embed.weight": made(7, 4), "blocks.0.weight": made(8, 4), "blocks.0.bias": made(8)}
    twins = {k: torch.nn.Parameter(p.detach().clone()) for k, p in names.items()}
    config = TrainConfig(optimizer="muon", lr=0.01, weight_decay=0.1, betas=(0.9, 0.95)).optimizer_config()
    muon = build_optimizer(config, names)
    assert [group["matrix"] for group in muon.param_groups] == [True, False, False]
    usual = TrainConfig(optimizer="adamw", lr=0.01, weight_decay=0.1, betas=(0.9, 0.95)).optimizer_config()
    adamw = build_optimizer(usual, twins)
    before = names["blocks.0.weight"].detach().clone()
    for k in range(3):
        for name, p in names.items():
            g = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 + k))
            p.grad, twins[name].grad = g.clone(), g.clone()
        muon.step()
        adamw.step()
        if k == 0:
            moved = names["blocks.0.weight"].detach() - before * (1 - 0.01 * 0.1)
            s = torch.linalg.svdvals(moved) / (0.01 * 0.2 * 8**0.5)
            assert float(s.min()) > 0.6
            assert float(s.max()) < 1.3
    for name in ("embed.weight", "blocks.0.bias"):
        torch.testing.assert_close(names[name], twins[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_resumes_bit_for_bit(vectors, tmp_path, name):
    class Crash(Exception):
        pass

    class Crashing(Adversaries):
        def after_step(self, ctx):
            super().after_step(ctx)
            if ctx.step + 1 == 9 and self.crash:
                raise Crash

    def model(crash):
        torch.manual_seed(0)
        made = Crashing()
        made.crash = crash
        return made

    config = TrainConfig(
        steps=12,
        batch=8,
        lr=1e-3,
        checkpoint_every=5,
        optimizers={"default": {"name": name}},
        precision="fp32",
    )
    fit(model(False), vectors, config, seed=1, directory=tmp_path / "whole")
    with pytest.raises(Crash):
        fit(model(True), vectors, config, seed=1, directory=tmp_path / "cut")
    fit(model(False), vectors, config, seed=1, directory=tmp_path / "cut", resume=True)
    one, two = (
        read_tensors(list_checkpoints(tmp_path / d / "checkpoints")[-1] / "state.safetensors")
        for d in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_records_of_earlier_trainings_have_the_same_identity():
    """What was not there before is left out where it is not used, so finished runs stay finished."""
    kept = {
        "steps", "batch", "accumulate", "optimizer", "lr", "betas", "weight_decay", "warmup", "schedule",
        "clip", "ema", "precision", "channels_last", "device", "devices", "strategy", "compile",
        "deterministic", "stages", "loss_weights",
    }  # fmt: skip
    config = TrainConfig(stages=(StageConfig(name="a", steps=1),), checkpoint_every=7)
    assert identity(config).keys() == kept
    assert identity(config)["stages"] == [
        {
            "name": "a",
            "steps": 1,
            "lr": None,
            "freeze": [],
            "init_from": None,
            "init_only": [],
            "loss_weights": {},
        }
    ]
    assert "keep_best" in identity(TrainConfig(keep_best=True))
    assert identity(TrainConfig(keep_best=True, checkpoint_every=7))["validate_every"] == 7
