"""bf16 and channels_last change the speed, not the training."""

from __future__ import annotations

import pytest
import torch
from training_toys import Adversaries, Images, Regression

from niwaki.core.contract import Batch
from niwaki.training import TrainConfig, fit
from niwaki.training.bf16 import has_bf16
from niwaki.training.hardware import choose_precision
from niwaki.training.optimizers import build_optimizer, optimizer_class


def run(model, split, **settings):
    torch.manual_seed(0)
    made = model()
    return made, fit(made, split, TrainConfig(**{"batch": 16, "lr": 0.01, "ema": 0.0, **settings}), seed=0)


def test_the_first_loss_in_bf16_is_that_in_float32(images):
    (_, exact), (_, fast) = (run(Images, images, steps=1, precision=p) for p in ("fp32", "bf16"))
    assert fast.last["fit/error"] == pytest.approx(exact.last["fit/error"], rel=0.01)
    assert fast.last["fit/error"] != exact.last["fit/error"]


def test_training_in_bf16_ends_where_float32_does(images):
    (_, exact), (_, fast) = (
        run(Images, images, steps=60, precision=p, log_every=20) for p in ("fp32", "bf16")
    )
    assert fast.last["fit/error"] == pytest.approx(exact.last["fit/error"], rel=0.02)


def test_products_are_bf16_and_everything_kept_is_float32(images):
    seen = {}

    class Looked(Images):
        def loss(self, phase, batch: Batch, ctx):
            seen["x"], seen["product"] = batch.x.dtype, self.net(batch.x).dtype
            return super().loss(phase, batch, ctx)

    model, _ = run(Looked, images, steps=2, precision="bf16")
    assert seen == {"x": torch.float32, "product": torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_auto_is_bf16_where_the_hardware_has_it():
    device = torch.device("cpu")
    assert choose_precision("auto", device) == ("bf16-mixed" if has_bf16(device) else "32-true")
    assert choose_precision("fp32", device) == "32-true"
    assert choose_precision("bf16", device) == "bf16-mixed"


@pytest.mark.parametrize("small", [True, False])
def test_small_matrices_stay_float32_on_a_cpu_unless_bf16_is_asked_for(small):
    model, device = Images(), torch.device("cpu")
    model.small_matrices = small
    usual = "bf16-mixed" if has_bf16(device) and not small else "32-true"
    assert choose_precision("auto", device, model) == usual
    assert choose_precision("bf16", device, model) == "bf16-mixed"
    assert choose_precision("fp32", device, model) == "32-true"


def test_terms_of_other_types_are_kept_as_float32(images):
    class Rounded(Images):
        def loss(self, phase, batch: Batch, ctx):
            terms = super().loss(phase, batch, ctx)
            return {name: term.bfloat16() for name, term in terms.items()} | {
                "none": torch.zeros((), dtype=torch.bfloat16)
            }

    _, result = run(Rounded, images, steps=2, precision="bf16")
    assert result.last["fit/none"] == 0.0


def test_a_double_backward_works_under_autocast(vectors):
    """The gradient penalty's first value, against the closed form of a linear critic: ‖w‖² for every
    sample."""

    class Linear(Adversaries):
        def __init__(self):
            super().__init__(every=1, repeats=1)
            self.critic = torch.nn.Linear(4, 1)

    torch.manual_seed(0)
    model = Linear()
    square = model.critic.weight.detach().square().sum().item()
    config = TrainConfig(steps=1, batch=16, precision="bf16", lr=0.0)
    last = fit(model, vectors, config, seed=0).last
    assert last["penalty/penalty"] == pytest.approx(square, rel=0.02)


def test_channels_last_trains_the_same_weights_and_is_undone(images):
    layouts = []

    class Looked(Images):
        def loss(self, phase, batch: Batch, ctx):
            layouts.append((batch.x.stride()[1], self.net[0].weight.stride()[1]))
            return super().loss(phase, batch, ctx)

    (last, _), (first, _) = (
        run(Looked, images, steps=10, precision="fp32", channels_last=c, optimizer="sgd")
        for c in (True, False)
    )
    assert layouts[0] == (1, 1)
    assert layouts[-1] == (64, 9)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(last.state_dict()[name], value, rtol=1e-4, atol=1e-5)
        # also where another layout means the same places (one channel): kernels are chosen by the strides
        assert last.state_dict()[name].stride() == torch.empty(value.shape).stride()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "radam"])
def test_the_fused_optimizer_is_the_plain_one_in_any_layout(name):
    """Against torch's loop over single tensors, on weights that lie with their channels last."""
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(4)
    fast = {"w": torch.nn.Parameter(weight.clone()), "b": torch.nn.Parameter(bias.clone())}
    slow = {"w": torch.nn.Parameter(weight.clone()), "b": torch.nn.Parameter(bias.clone())}
    torch_name = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "radam": "RAdam"}[
        name
    ]
    cls = getattr(torch.optim, torch_name)
    rest = {"sgd": {"momentum": 0.8}, "rmsprop": {"momentum": 0.5, "alpha": 0.7}}.get(
        name, {"betas": (0.8, 0.9)}
    )
    opt = build_optimizer(optimizer_class(name)(lr=0.05, weight_decay=0.1, **rest), fast)
    groups = [{"params": [slow["w"]], "weight_decay": 0.1}, {"params": [slow["b"]], "weight_decay": 0.0}]
    plain = cls(groups, lr=0.05, foreach=False, **rest)
    assert fast["w"].stride() == weight.stride()
    for _ in range(5):
        for parameters, optimizer in ((fast, opt), (slow, plain)):
            loss = sum(((p - 0.3) ** 3).abs().sum() for p in parameters.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for key in fast:
        torch.testing.assert_close(fast[key], slow[key], rtol=1e-5, atol=1e-6)


def test_global_switches_and_generators_come_back(vectors):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    before = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )
    model = Regression()
    torch.manual_seed(3)
    fit(model, vectors, TrainConfig(steps=2, batch=8), seed=0)
    assert torch.equal(torch.rand(1), expected)
    now = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )
    assert now == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_compiled_networks_train_the_same_weights(vectors):
    """With a phase that differentiates twice, which torch.compile cannot do: it runs uncompiled."""

    class Still(Adversaries):
        def __init__(self):
            super().__init__(every=2, repeats=1)
            self.critic = torch.nn.Sequential(
                torch.nn.Linear(4, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1)
            )

    (plain, _), (fast, _) = (
        run(Still, vectors, steps=6, precision="fp32", compile=c, optimizer="sgd") for c in (False, True)
    )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-4, atol=1e-5)
