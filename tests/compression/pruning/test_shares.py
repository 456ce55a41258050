"""Channels by criteria that look at data, and by shares that differ from layer to layer."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compression import small_models
from torch import Tensor

from niwaki.compression import CompressConfig, PruneConfig, compress
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, couplings
from niwaki.compression.pruning.entry import prune
from niwaki.compression.pruning.importance.channels import importance_of
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.core.contract import Batch, CallError, GenerativeModel
from niwaki.data import Split
from niwaki.surgery.cuts import find, scale, width

FREE = {"round_to": 1, "min_width": 1}


def of(model: GenerativeModel, name: str) -> Coupling:
    return next(c for c in couplings(model) if any((m.module, m.side) == (name, "out") for m in c.members))


def config(**settings: object) -> PruneConfig:
    return PruneConfig(**{**FREE, **settings})  # type: ignore[arg-type]


def test_taylor_of_a_channel_is_what_scaling_all_its_slices_changes() -> None:
    """Σ w·∂L/∂w over the slices is dL/ds at s = 1, where s scales each of them: central differences."""
    model = small_models.gan().double().eval()
    coupling = of(model, "generator.conv1")
    z, y = torch.randn(6, 12, dtype=torch.float64), torch.arange(6)

    def loss(m: GenerativeModel, batch: Batch) -> Tensor:
        return m.generator(z, y).pow(2).mean()

    evidence = Evidence(loss=loss)
    evidence.batches = lambda m: iter([SimpleNamespace()])  # type: ignore[method-assign]
    (score,) = importance_of("taylor")(model, [coupling], evidence)
    e, slopes = 1e-6, []
    for u in range(coupling.units):
        values = []
        for sign in (1, -1):
            other = copy.deepcopy(model)
            for member in coupling.members:
                target = find(other, member.module)
                factors = torch.ones(width(target, member.side), dtype=torch.float64)
                factors[list(member.positions[u])] = 1 + sign * e
                buffers = {n: b.clone() for n, b in other.named_buffers()}
                scale(target, member.side, factors)
                for n, b in other.named_buffers():
                    b.copy_(buffers[n])  # running statistics are no weights
            with torch.no_grad():
                values.append(float(loss(other, None)))  # type: ignore[arg-type]
        slopes.append(abs(values[0] - values[1]) / (2 * e))
    slope = torch.tensor(slopes, dtype=torch.float64)
    torch.testing.assert_close(score, slope / slope.mean(), rtol=1e-4, atol=1e-5)


def test_taylor_spares_what_the_loss_needs_whatever_its_size() -> None:
    model = small_models.gan().eval()
    with torch.no_grad():  # large, and nothing looks at them
        model.generator.conv1.weight[:4] *= 50
        model.generator.conv2.weight[:, :4] = 0
    kept = {}
    for name in ("magnitude", "taylor"):
        done = pruned(model, config(ratio=0.25, importance=name), evidence=Evidence(batches=2))
        kept[name] = next(c.keep for c in done.model.surgery if c.module == "generator.norm1")
    assert set(range(4)) <= set(kept["magnitude"])
    assert not set(range(4)) & set(kept["taylor"])


def test_the_geometric_median_prefers_filters_that_no_other_can_replace() -> None:
    model = small_models.gan().eval()
    coupling = of(model, "generator.conv1")
    (score,) = importance_of("geometric_median")(model, [coupling])
    w = model.generator.conv1.weight.detach().double().flatten(1)
    slow = torch.stack([sum((a - b).norm() for b in w) for a in w])  # type: ignore[arg-type]
    torch.testing.assert_close(score, slow / slow.mean())


def test_layers_lose_what_they_are_given_and_the_rest_the_ratio() -> None:
    model = small_models.gan()
    done = pruned(model, config(ratio=0.5, ratios={"generator.conv1": 0.75, "generator.conv2": 0.0}))
    assert done.widths["generator.conv1:out"] == (16, 4)
    assert done.widths["generator.conv2:out"] == (16, 16)
    assert done.widths["generator.start:out"] == (16, 8)
    with pytest.raises(CallError, match=r"did you mean 'generator.conv1'"):
        pruned(model, config(ratios={"generator.conv11": 0.5}))


def test_adaptive_shares_meet_the_ratio_and_differ() -> None:
    model = small_models.gan()
    with torch.no_grad():
        model.generator.conv1.weight[3:] *= 0.01
        model.generator.norm1.weight[3:] = 0.01
        model.generator.conv2.weight[:, 3:] *= 0.01
    done = pruned(model, config(ratio=0.4, ranking="adaptive"))
    before, after = (sum(w[i] for w in done.widths.values()) for i in (0, 1))
    assert after == pytest.approx(0.6 * before, abs=3)
    assert done.widths["generator.conv1:out"][1] <= 6 < done.widths["generator.conv2:out"][1]


def test_shares_that_are_all_the_ratio_cut_what_the_ratio_cuts() -> None:
    for make, graph in ((small_models.gan, "generator"), (small_models.recurrent, "cell")):
        for rounds in (1, 2):
            plain = pruned(make(), config(ratio=0.5, rounds=rounds))
            named = pruned(make(), config(ratio=0.5, rounds=rounds, ratios={graph: 0.5}))
            assert named.widths == plain.widths
            assert named.model.surgery == plain.model.surgery


def test_what_was_learned_decides_and_what_was_not_learned_stays() -> None:
    model = small_models.gan()
    best = torch.arange(16.0).flip(0)

    def learn(whole: GenerativeModel, free: list[Coupling]) -> tuple[GenerativeModel, dict, dict]:
        assert {"generator.conv1:out", "generator.conv2:out"} <= {c.key for c in free}
        return whole, {"generator.conv1:out": best}, {"generator.conv1:out": 5}

    done = pruned(model, config(ratio=0.5), learn=learn)
    assert {k for k, (before, after) in done.widths.items() if after < before} == {"generator.conv1:out"}
    assert next(c.keep for c in done.model.surgery if c.module == "generator.norm1") == tuple(range(5))


def test_the_schedule_cuts_most_at_first() -> None:
    seen = []

    def recover(model: GenerativeModel, k: int) -> GenerativeModel:
        seen.append(model.generator.conv1.out_channels)
        return model

    done = pruned(small_models.gan(), config(ratio=0.5, rounds=2, schedule="cubic"), recover=recover)
    assert seen == [9]  # 16 · (1 − ½ · 0.875)
    assert done.model.generator.conv1.out_channels == 8


def test_prune_by_itself_does_all_that_the_step_does() -> None:
    model = small_models.gan()
    assert prune(model, ratio=0.5, **FREE).generator.conv1.out_channels == 8
    sparse = prune(model, what="weights", pattern="2:4")
    assert float((sparse.generator.conv1.weight == 0).float().mean()) == 0.5
    assert prune(model, what="blocks", count=1).surgery[0].kind == "drop"
    with pytest.raises(CallError, match="needs data"):
        prune(model, method="l0", train=5)
    rng = torch.Generator().manual_seed(0)
    x = torch.rand((64, 1, 8, 8), generator=rng) * 2 - 1
    split = Split.of(model.spec, x, torch.arange(64) % 10)
    taylor = prune(model, what="weights", importance="taylor", ratio=0.3, split=split)
    assert float((taylor.generator.conv1.weight == 0).float().mean()) == pytest.approx(0.3, abs=1e-3)


def test_a_plan_with_taylor_needs_no_data(tmp_path: Path) -> None:
    step = PruneConfig(importance="taylor", ranking="adaptive", ratio=0.5, **FREE)
    made = compress(
        small_models.gan(), None, CompressConfig(steps=(step,), measure=False), workdir=tmp_path, seed=0
    )
    assert made.records[0].parameters[1] < made.records[0].parameters[0]
    assert {tuple(r["shape"]) for r in made.records[0].sparsity}
