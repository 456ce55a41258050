"""Low-rank adapters: what they compute, that they begin with nothing, and leave plain weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from niwaki.core.lora_files import read_pairs
from niwaki.nn.low_rank import (
    adaptable,
    adapter_class,
    attach,
    is_adapter,
    merge,
    merge_adapter,
    restart,
    strip,
    write_adapter,
)
from niwaki_runtime.errors import CallError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def layers() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(6, 5),
            "pointwise": nn.Conv2d(4, 7, 1),
            "kernel": nn.Conv1d(4, 6, 3, groups=2),
            "transposed": nn.ConvTranspose2d(4, 3, 2),
        }
    )


def inputs() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = {"linear": (2, 6), "pointwise": (2, 4, 3, 3), "kernel": (2, 4, 9), "transposed": (2, 4, 3, 3)}
    return {n: torch.randn(*s, generator=rng) for n, s in shapes.items()}


def put(model: nn.Module, kind: str, rank: int = 2, scale: float = 1.5) -> None:
    rng = torch.Generator().manual_seed(3)
    attach(adaptable(model).values(), lambda axis: adapter_class(kind)(rank, scale, axis), rng)


def move(model: nn.Module) -> None:
    """Adapters as training leaves them."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if is_adapter(name):
                p.add_(torch.randn(p.shape, generator=rng) * 0.3)


KINDS = pytest.mark.parametrize("kind", ["lora", "dora"])


@KINDS
def test_new_adapters_change_nothing_and_keep_the_names(kind: str) -> None:
    model, x = layers(), inputs()
    before = {n: model[n](v) for n, v in x.items()}
    stored = copy.deepcopy(model.state_dict())
    put(model, kind)
    assert all(torch.equal(model[n](v), before[n]) for n, v in x.items())
    kept = {n: t for n, t in model.state_dict().items() if not is_adapter(n)}
    assert kept.keys() == stored.keys()
    assert all(torch.equal(t, stored[n]) for n, t in kept.items())
    assert sum(is_adapter(n) for n in model.state_dict()) == 4 * (2 if kind == "lora" else 3)


@KINDS
def test_merged_layers_are_plain_and_compute_the_same(kind: str) -> None:
    model, x = layers(), inputs()
    kinds = {n: type(m) for n, m in layers().items()}
    put(model, kind)
    move(model)
    adapted = {n: model[n](v) for n, v in x.items()}
    twin = copy.deepcopy(model)
    names = merge(model)
    assert set(names) == {f"{n}.weight" for n in x}
    assert model.state_dict().keys() == layers().state_dict().keys()
    assert {n: type(m) for n, m in model.items()} == kinds
    for n, v in x.items():
        assert torch.equal(model[n](v), adapted[n])
        assert not torch.equal(model[n].weight, layers()[n].weight)
        assert torch.equal(twin[n](v), adapted[n]), "a copy still has its adapters"


def test_the_change_of_lora_is_s_b_a_and_of_its_rank() -> None:
    model, base = layers(), layers()
    put(model, "lora", rank=2, scale=1.5)
    move(model)
    down, up = model["linear"].lora_A.detach(), model["linear"].lora_B.detach()
    assert torch.allclose(model["linear"].weight, base["linear"].weight + 1.5 * up @ down, atol=1e-6)
    for name, layer in model.items():
        change = (layer.weight - base[name].weight).detach()
        change = change.movedim(int(name == "transposed"), 0).flatten(1).double()
        assert int(torch.linalg.matrix_rank(change, rtol=1e-5)) == 2, name


def test_dora_has_its_own_magnitude_and_the_direction_of_the_sum() -> None:
    """W' = m·(W + s·B·A)/‖W + s·B·A‖ by rows (Liu et al. 2024, Equation 5)."""
    model, base = layers(), layers()["linear"]
    put(model, "dora")
    move(model)
    layer = model["linear"]
    down, up, m = (t.detach().double() for t in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector))
    v = base.weight.detach().double() + 1.5 * up @ down
    rows = [[m[i] * v[i, j] / v[i].square().sum().sqrt() for j in range(6)] for i in range(5)]
    assert torch.allclose(layer.weight.double(), torch.tensor(rows, dtype=torch.float64), atol=1e-6)
    # The norm is a constant in the gradient (Section 4.3): ∂/∂B Σ G∘W' = s·(m/‖V‖)·G·Aᵀ.
    g = torch.randn(5, 6, generator=torch.Generator().manual_seed(9))
    (layer.weight * g).sum().backward()
    share = (m / v.norm(dim=1)).unsqueeze(1)
    assert torch.allclose(layer.lora_B.grad.double(), 1.5 * (share * g.double()) @ down.T, atol=1e-5)
    assert torch.allclose(
        layer.lora_magnitude_vector.grad.double(), (g.double() * v).sum(1) / v.norm(dim=1), atol=1e-5
    )


def test_magnitudes_follow_weights_that_are_replaced() -> None:
    model = layers()
    put(model, "dora")
    with torch.no_grad():
        model["linear"]._parameters["weight"].mul_(3.0)
    names = restart(model)
    assert "linear.lora_magnitude_vector" in names
    assert torch.equal(model["linear"].weight, layers()["linear"].weight * 3.0)


@KINDS
def test_an_adapter_alone_is_put_on_the_base_again(kind: str, tmp_path) -> None:
    model, base, x = layers(), layers(), inputs()
    put(model, kind)
    move(model)
    adapted = {n: model[n](v) for n, v in x.items()}
    file = tmp_path / "adapter.safetensors"
    write_adapter(model, file)
    (pair,) = [p for p in read_pairs(file) if p.module == "pointwise"]
    assert pair.down.shape == (2, 4, 1, 1)
    assert pair.up.shape == (7, 2, 1, 1)
    assert pair.factor == pytest.approx(1.5)
    assert set(merge_adapter(base, file)) == set(x)
    for n, v in x.items():
        assert torch.allclose(base[n](v), adapted[n], atol=1e-5)


def test_shared_weights_and_embeddings_stay_and_strip_gives_the_base_back() -> None:
    model = Tied()
    assert set(adaptable(model)) == {"inner"}
    put(model, "lora")
    move(model)
    weight = model.inner._parameters["weight"]
    strip(model)
    assert model.inner.weight is weight
    assert not any(is_adapter(n) for n in model.state_dict())


def test_an_adapter_of_another_model_is_refused_by_name(tmp_path) -> None:
    model = layers()
    put(model, "lora")
    write_adapter(model, tmp_path / "a.safetensors")
    with pytest.raises(CallError, match="fits no layer of the model"):
        merge_adapter(Tied(), tmp_path / "a.safetensors")
    other = nn.ModuleDict({n: nn.Linear(3, 3) for n in model})
    with pytest.raises(CallError, match="made for another model"):
        merge_adapter(other, tmp_path / "a.safetensors")
    with pytest.raises(CallError, match="there is no adapter 'lorra'; did you mean 'lora'"):
        adapter_class("lorra")
