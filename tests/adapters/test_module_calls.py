"""What everything later relies on is tried when a module is adapted, and named where it does not hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import niwaki_runtime
from niwaki.adapters import Adapted, adapt
from niwaki.compression import prune
from niwaki.core.contract import CallError
from niwaki.deployment import export_graphs, package
from niwaki.models import load_model, save_model


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Does(nn.Module):
    """A linear layer, and whatever `then` makes of it: (module, hidden values, z) → samples."""

    def __init__(self, then: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(8, 16), then
        self.norm = nn.BatchNorm1d(16, track_running_stats=False)
        self.strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("calls", torch.zeros(1))
        self.count = 0

    def forward(self, z: Tensor) -> Tensor:
        return self.then(self, self.linear(z), z)


def counted(m: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    m.count += 1
    return x * m.count


def remembered(m: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    m.calls.add_(1)
    return x


NOISE = {
    "randn": lambda m, x, z: x + torch.randn(x.shape[0], 16),
    "of no strength yet": lambda m, x, z: x + m.strength * torch.randn_like(x),
    "in place": lambda m, x, z: x + x.new_empty(x.shape).normal_(),
    "uniform": lambda m, x, z: x + torch.rand_like(x),
    "dropout": lambda m, x, z: F.dropout(x, 0.5),
    "coins": lambda m, x, z: x * torch.bernoulli(torch.full_like(x, 0.5)),
    "gumbel": lambda m, x, z: F.gumbel_softmax(x),
}


@pytest.mark.parametrize("kind", NOISE)
def test_noise_in_the_forward_is_refused_with_its_line(kind: str) -> None:
    words = r"draws noise in its forward \(.*test_module_calls.py:\d+.*noise='input'"
    with pytest.raises(CallError, match=words):
        adapt(Does(NOISE[kind]), latent=8)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda m, x, z: x + float(np.random.standard_normal()), "other samples for equal latents"),  # noqa: NPY002
        (counted, "other samples for equal latents"),
        (remembered, "writes into its own 'calls'"),
    ],
)
def test_state_in_the_forward_is_refused(then: Callable, words: str) -> None:
    with pytest.raises(CallError, match=words):
        adapt(Does(then), latent=8)


BATCH = {
    "norm of the batch": lambda m, x, z: m.norm(x),
    "batch norm in training": lambda m, x, z: F.batch_norm(x, None, None, training=True),
    "mean": lambda m, x, z: x - x.mean(0),
    "softmax over samples": lambda m, x, z: x.softmax(0),
    "place among them": lambda m, x, z: x + torch.arange(len(x))[:, None],
    "neighbour": lambda m, x, z: x + x.roll(1, 0),
    "branch": lambda m, x, z: x * 2 if len(x) > 16 else x,
    "even": lambda m, x, z: x * (1 + len(x) % 2),
}


@pytest.mark.parametrize("kind", BATCH)
def test_samples_that_depend_on_the_batch_are_refused(kind: str) -> None:
    with pytest.raises(CallError, match=r"drawn beside it|single sample|does something else with"):
        adapt(Does(BATCH[kind]), latent=8)


WRITES = {
    "times": lambda m, x, z: m.linear(z.mul_(0.5)),
    "minus": lambda m, x, z: z.__isub__(z.mean(1, keepdim=True)) @ m.linear.weight.T,
    "clamp": lambda m, x, z: m.linear(z.clamp_(-1, 1)),
    "a column": lambda m, x, z: m.linear(z.index_fill_(1, torch.tensor([0]), 0.5)),
    "through a view": lambda m, x, z: m.linear(z.view(-1, 2, 4)[:, 0].zero_() @ torch.ones(4, 8) + z),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_module_that_writes_into_its_latents_is_given_copies(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Does(WRITES[kind]).eval()
    model = adapt(net, latent=8, low=-9, high=9)
    z = torch.randn(3, 8)
    kept = z.clone()
    with torch.no_grad():
        made = model.generator(z)
        assert torch.equal(z, kept)
        torch.testing.assert_close(made, net(kept))
    if kind == "times":
        export_graphs(model, tmp_path)  # checked in both engines


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2)))


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor) -> Tensor:
        return self.inner(z)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.jit.trace(small(), torch.randn(2, 8)), "the module is TorchScript"),
        (lambda: torch.jit.script(small()), "the module is TorchScript"),
        (lambda: torch.jit.freeze(torch.jit.script(small().eval())), "the module is TorchScript"),
        (lambda: Around(torch.jit.trace(small(), torch.randn(2, 8))), "its part 'inner' is TorchScript"),
        (lambda: nn.Sequential(nn.LazyLinear(12), nn.Unflatten(1, (3, 2, 2))), "has no shape yet"),
        (lambda: small().to("meta"), "meta device"),
        (lambda: small().to(torch.float8_e4m3fn), "before it was quantized"),
        (lambda: quantized(), "not a float"),
        (lambda: locked(), "cannot be copied"),
    ],
)
def test_what_cannot_be_changed_or_exported_is_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(CallError, match=words):
        adapt(make(), latent=8)


def quantized() -> nn.Module:
    module = Around(small())
    module.q = nn.Parameter(torch.zeros(4, dtype=torch.int8), requires_grad=False)
    return module


def locked() -> nn.Module:
    module = Around(small())
    module.source = threading.Lock()
    return module


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, "one layer", "one buffer"])
def test_other_floats_are_cast_in_a_copy_with_a_word(dtype: object) -> None:
    torch.manual_seed(0)
    module = small()
    if isinstance(dtype, torch.dtype):
        module = module.to(dtype)
    elif dtype == "one layer":
        module[0].double()
    else:
        module[0].register_buffer("scale", torch.ones(2, dtype=torch.float16))
    before = {k: v.dtype for k, v in module.state_dict().items()}
    with pytest.warns(UserWarning, match="were cast to float32"):
        model = adapt(module, latent=8)
    assert model.sample(2, seed=0).dtype == torch.float32
    assert {k: v.dtype for k, v in module.state_dict().items()} == before
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_wrappers_are_taken_off() -> None:
    net = small()
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        with pytest.warns(UserWarning, match="was taken off"):
            assert adapt(wrapped, latent=8).generator is net


def test_samples_of_another_float_are_named() -> None:
    with pytest.raises(CallError, match=r"float32, not torch.bfloat16; end its forward with .float\(\)"):
        adapt(Does(lambda m, x, z: x.bfloat16()), latent=8)


# Noise handed in ------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """StyleGAN's noise of every layer, two kinds of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 256), nn.ConvTranspose2d(16, 12, 4, 2, 1)
        self.c = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.a(z).view(-1, 16, 4, 4)
        x = self.b(F.relu(x + 0.3 * torch.randn(x.shape[0], 1, 4, 4)))
        return torch.tanh(self.c(x + 0.1 * torch.empty(x.shape[0], 1, 8, 8).uniform_(-1, 1)))


def noisy() -> nn.Module:
    return Noisy()


def handed(**arguments: object) -> Adapted:
    torch.manual_seed(0)
    return adapt(Noisy(), latent=8, noise="input", **arguments)  # type: ignore[arg-type]


def test_noise_handed_in_makes_samples_repeat_and_keeps_their_spread() -> None:
    model = handed()
    assert model.config.noise == ((1, 4, 4), (1, 8, 8))
    assert model.sampler().latent == (8 + 16 + 64,)
    one, many = model.sample(1, seed=3), model.sample(9, seed=3)
    torch.testing.assert_close(one[0], many[0])
    torch.manual_seed(1)
    with torch.no_grad():
        theirs = model.generator.module(torch.randn(4000, 8))  # draws its own
    ours = model.sample(4000, seed=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.1, atol=0.01)
    torch.testing.assert_close(ours.mean(), theirs.mean(), rtol=0, atol=0.01)


def test_noise_handed_in_is_exported_pruned_and_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = handed(factory="test_module_calls:noisy")
    bundle = package(model, export_graphs(model, tmp_path / "g"), tmp_path / "a.niwaki")
    for engine in ("openvino", "onnxruntime"):
        made = niwaki_runtime.load(bundle, engine=engine, precision="exact").sample(5, seed=2)
        np.testing.assert_allclose(made, model.sample(5, seed=2).numpy(), atol=1e-5)
    smaller = prune(model, ratio=0.5)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    save_model(smaller, tmp_path / "m")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert torch.equal(load_model(tmp_path / "m").sample(2, seed=0), smaller.sample(2, seed=0))


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (NOISE["dropout"], "cannot be handed in"),
        (NOISE["gumbel"], "cannot be handed in"),
        (lambda m, x, z: x + torch.randn(1, 16), "not of each sample"),
        (lambda m, x, z: x + torch.randn(16), "not of each sample"),
        (lambda m, x, z: x + torch.randn(16, x.shape[0]).T, "not of each sample"),
    ],
)
def test_noise_that_cannot_be_handed_in_is_named(then: Callable, words: str) -> None:
    with pytest.raises(CallError, match=words):
        adapt(Does(then), latent=8, noise="input")


@pytest.mark.parametrize("kind", ["randn", "of no strength yet", "in place", "uniform"])
def test_every_way_of_drawing_is_handed_in(kind: str) -> None:
    model = adapt(Does(NOISE[kind]), latent=8, noise="input", low=-6, high=6)
    assert torch.equal(model.sample(3, seed=1), model.sample(3, seed=1))
