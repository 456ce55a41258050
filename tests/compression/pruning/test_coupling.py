"""What falls together, in small networks where the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from prunability.zoo.case import ZooConfig, ZooModel, case, floats, whole
from torch import Tensor, nn

from niwaki.compression import PruneConfig
from niwaki.compression.forward import outputs
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.dependencies.dependency_graph import (
    Coupling,
    couplings,
    cuts_of,
    merge_couplings,
)
from niwaki.compression.pruning.trial import Trial
from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.models import load_model, save_model
from niwaki.surgery.cuts import find, width
from niwaki.surgery.edits import apply_edits


def model_of(name: str) -> ZooModel:
    torch.manual_seed(0)
    return ZooModel(ZooConfig(case=f"test-coupling-{name}"), DataSpec.of("vector", (4,)))


def registered(name: str, *inputs: object) -> Callable[[type[nn.Module]], type[nn.Module]]:
    return case("test", *inputs, name=f"test-coupling-{name}")


def places(coupling: Coupling, name: str, side: str = "out") -> tuple[tuple[int, ...], ...]:
    return next(m.positions for m in coupling.members if (m.module, m.side) == (f"network.{name}", side))


def having(found: list[Coupling], *sides: tuple[str, str]) -> Coupling:
    (one,) = (
        c
        for c in found
        if all((f"network.{n}", s) in {(m.module, m.side) for m in c.members} for n, s in sides)
    )
    return one


@registered("grouped-queries", floats("x", 5, 12))
class GroupedQueries(nn.Module):
    """Four heads of queries, two of keys and values (Ainslie et al. 2023), heads of a noted width."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim, self.groups = 3, 2
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 6), nn.Linear(12, 6)
        self.out = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            m(x).view(*x.shape[:2], -1, self.head_dim).transpose(1, 2) for m in (self.q, self.k, self.v)
        )
        k, v = (t[:, :, None].expand(-1, -1, self.groups, -1, -1).flatten(1, 2) for t in (k, v))
        a = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.out(a.transpose(1, 2).flatten(2))


def test_heads_of_grouped_queries_fall_with_their_keys_and_values() -> None:
    model = model_of("grouped-queries")
    heads = having(couplings(model, heads=True), ("q", "out"))
    assert heads.units == 2
    assert places(heads, "q") == (tuple(range(6)), tuple(range(6, 12)))
    assert places(heads, "k") == places(heads, "v") == ((0, 1, 2), (3, 4, 5))
    assert places(heads, "out", "in") == (tuple(range(6)), tuple(range(6, 12)))
    fine = having(couplings(model), ("q", "out"))
    assert fine.units == 6
    assert fine.blocks == 2
    for key, queries in zip(places(fine, "k"), places(fine, "q"), strict=True):
        head, at = divmod(key[0], 3)
        assert queries == (6 * head + at, 6 * head + 3 + at)


def test_where_the_width_of_a_head_is_noted_it_follows_or_the_head_goes_as_a_whole() -> None:
    model = model_of("grouped-queries")
    done = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=1, heads="only"))
    n = done.model.network
    assert [width(m, "out") for m in (n.q, n.k, n.v)] == [6, 3, 3]
    assert n.head_dim == 3
    with pytest.raises(CallError, match="'heads' means nothing"):
        PruneConfig(what="blocks", heads="only")


@registered("noted", whole("tokens", 11, 6))
class Noted(nn.Module):
    """Numbers in a split and in a reshape, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.inner = 4, 24
        self.embed = nn.Embedding(11, 20)
        self.qkv, self.out = nn.Linear(20, 72), nn.Linear(24, 20)
        self.head = nn.Linear(20, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).split(self.inner, 2)
        q, k, v = (t.view(b, n, self.heads, self.inner // self.heads).transpose(1, 2) for t in (q, k, v))
        a = (q @ k.transpose(2, 3) / 6**0.5).softmax(-1) @ v
        return self.head(x + self.out(a.transpose(1, 2).reshape(b, n, self.inner)))


def test_noted_numbers_follow_and_are_recorded_and_replayed(tmp_path: Path) -> None:
    model = model_of("noted")
    done = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=2)).model
    n = done.network
    assert n.inner == n.out.in_features == n.qkv.out_features // 3 == 12
    assert {e.name for e in done.surgery if e.kind == "attribute"} <= {"inner", "heads"}
    assert n.head.weight is n.embed.weight
    assert n.embed.embedding_dim == n.head.in_features == 10
    save_model(done, tmp_path)
    again = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(outputs(again), outputs(done), strict=True))
    assert (again.network.inner, again.network.head.weight is again.network.embed.weight) == (12, True)


def test_heads_go_round_by_round_too() -> None:
    done = pruned(model_of("noted"), PruneConfig(ratio=0.5, rounds=2, round_to=1, min_width=2, heads="only"))
    assert done.model.network.heads == 2
    assert done.model.network.embed.embedding_dim == 20
    assert [after for _, after in done.widths.values()] == [2]


@registered("dealt", floats("x", 3, 4, 4))
class Dealt(nn.Module):
    """Channels dealt anew between two groups: position 2i + j holds what was at 6j + i."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 1, groups=2)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.last(F.relu(self.grouped(h)))


def test_dealt_channels_are_followed_to_where_they_go() -> None:
    """Both groups lose the same places, so that what is left is dealt as before."""
    model = model_of("dealt")
    one = having(couplings(model), ("first", "out"), ("grouped", "in"))
    assert (one.units, one.blocks) == (6, 2)
    for first, grouped in zip(places(one, "first"), places(one, "grouped", "in"), strict=True):
        assert first == (first[0], first[0] + 6)
        assert grouped == (2 * first[0], 2 * first[0] + 1)
    assert Trial(model).tried(one).exact


@registered("plain-norms", floats("x", 4, 6))
class PlainNorms(nn.Module):
    """Norms without weights still count channels."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(6, 16), nn.LayerNorm(16, elementwise_affine=False)
        self.last = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.enter(x)))


def test_a_norm_without_weights_is_cut_with_its_channels() -> None:
    done = pruned(model_of("plain-norms"), PruneConfig(ratio=0.5, round_to=1, min_width=2)).model
    assert done.network.norm.normalized_shape == (8,)


@registered("twins", floats("x", 5, 8))
class Twins(nn.Module):
    """One head whose width is taken from the keys: queries, keys and values keep as many channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        q, k, v = (t.view(x.shape[0], -1, 1, k.shape[-1]).transpose(1, 2) for t in (q, k, v))
        return self.out(((q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_couplings_that_must_be_as_wide_are_cut_together() -> None:
    model = model_of("twins")
    found = [c for c in couplings(model) if not c.protected]
    trial = Trial(model)
    assert all(trial.tried(c).protected for c in found)
    both = trial.tried(merge_couplings(found))
    assert not both.protected
    assert (both.units, both.blocks) == (16, 2)
    done = pruned(model, PruneConfig(ratio=0.5, rounds=2, round_to=1, min_width=2)).model
    assert {width(m, "out") for m in (done.network.q, done.network.k, done.network.v)} == {4}


def test_dead_heads_are_cut_without_a_trace() -> None:
    model: GenerativeModel = model_of("noted")
    heads = Trial(model).tried(having(couplings(model, heads=True), ("qkv", "out")))
    with torch.no_grad():
        model.network.out.weight[:, [p for u in (1, 3) for p in places(heads, "out", "in")[u]]] = 0.0
    before = outputs(model)
    apply_edits(model, cuts_of(model, [(heads, (1, 3))]))
    assert find(model, "network.qkv").out_features == 36  # type: ignore[union-attr]
    for a, b in zip(outputs(model), before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@registered("vector", floats("x", 6))
class TimesVector(nn.Module):
    """One number per sample, a product with a bare vector: h·w."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 3)
        self.gate = nn.Parameter(torch.randn(12))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h) * torch.sigmoid(h @ self.gate)[:, None]


def test_a_product_with_a_vector_is_followed() -> None:
    model = model_of("vector")
    one = having(couplings(model), ("first", "out"), ("last", "in"))
    assert not one.protected
    assert places(one, "gate", "0") == tuple((i,) for i in range(12))
    assert not Trial(model).tried(one).protected


@registered("torchscript", floats("x", 6))
class PartlyScript(nn.Module):
    """Compiled layers among others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 3)
        self.compiled = torch.jit.script(nn.Sequential(nn.Linear(12, 12), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.middle(self.compiled(torch.relu(self.first(x))))))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of copied TorchScript
def test_layers_beside_torchscript_are_cut_and_those_in_it_are_not() -> None:
    done = pruned(model_of("torchscript"), PruneConfig(ratio=0.5, round_to=1, min_width=2))
    assert done.widths == {"network.middle:out": (10, 5)}
    script = "it lies in TorchScript, whose layers cannot be changed"
    assert [key for key, reason in done.skipped.items() if reason == script]
    assert done.model.network.first.out_features == 12
