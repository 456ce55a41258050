"""Single weights: what is pruned, by which criterion, and that the zeros outlive all that comes after."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models
from torch import Tensor, nn

import niwaki_runtime
from niwaki.compression import CompressConfig, FinetuneConfig, PruneConfig, compress
from niwaki.compression import steps as steps_module
from niwaki.compression.distillation.finetune import finetune
from niwaki.compression.pruning.slots import slots
from niwaki.compression.pruning.sparsity_table import LayerSparsity, sparsity, table
from niwaki.compression.pruning.weights import sparsified
from niwaki.compression.steps import Outcome, Step
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.data import Split
from niwaki.models import load_model, save_model
from niwaki.surgery.sparse import Sparse, held, masks, patterns

TUNE = FinetuneConfig(steps=6, batch=32, precision="fp32", device="cpu", warmup=0)
MAKERS = [small_models.gan, small_models.ddpm, small_models.flow, small_models.recurrent]


def split_of(model: GenerativeModel, n: int = 64) -> Split:
    rng = torch.Generator().manual_seed(1)
    if model.spec.modality == "image":
        x, y = torch.rand((n, *model.spec.shape), generator=rng) * 2 - 1, torch.arange(n) % 10
        return Split.of(model.spec, x, y)
    if model.spec.modality == "text":
        return Split.of(model.spec, torch.randint(0, 7, (n, *model.spec.shape), generator=rng))
    return Split.of(model.spec, torch.randn((n, *model.spec.shape), generator=rng))


def zeros(model: GenerativeModel) -> dict[str, Tensor]:
    return {n: s.weight.detach() == 0 for n, s in slots(model)[0].items()}


def weights(**settings: Any) -> PruneConfig:
    return PruneConfig(what="weights", **settings)


@pytest.mark.parametrize("make", MAKERS)
def test_every_layer_loses_exactly_its_share_and_nothing_else_changes(make: Any) -> None:
    model = make()
    done = sparsified(model, weights(ratio=0.75))
    mine = slots(done.model)[0]
    for slot in mine.values():
        n = slot.weight.numel()
        assert int((slot.weight == 0).sum()) == n - round(0.25 * n)
    before = dict(model.named_parameters())
    for name, p in done.model.named_parameters():
        kept = p != 0 if name in mine else torch.ones_like(p, dtype=torch.bool)
        assert torch.equal(p[kept], before[name][kept])  # norms, biases, embeddings, critics: as they were
    assert sum(p.numel() for p in done.model.parameters()) == sum(p.numel() for p in before.values())
    assert model.surgery == ()
    assert set(patterns(done.model)) == set(mine)


def test_the_smallest_weights_go_and_of_all_layers_together_exactly_as_many() -> None:
    model = small_models.gan()
    with torch.no_grad():
        model.generator.conv1.weight.mul_(100.0)  # the scale of a layer means nothing
    layer = sparsified(model, weights(ratio=0.5)).model.generator.conv1.weight.detach()
    assert float(model.generator.conv1.weight.detach().abs()[layer == 0].max()) <= float(
        layer[layer != 0].abs().min()
    )
    for ranking in ("global", "lamp", "erk"):
        done = sparsified(model, weights(ratio=0.9, ranking=ranking))
        assert done.zeros == pytest.approx(0.9 * done.total, abs=0.5 if ranking != "erk" else 2)
        for mask in zeros(done.model).values():
            assert float((~mask).float().mean()) >= 0.049  # no layer vanishes
    one, other = (sparsified(m, weights(ratio=0.9, ranking="global")) for m in (small_models.gan(), model))
    assert all(
        torch.equal(a, b) for a, b in zip(zeros(one.model).values(), zeros(other.model).values(), strict=True)
    )


def test_layers_can_be_given_ratios_of_their_own_and_be_excluded() -> None:
    model = small_models.gan()
    config = weights(
        ratio=0.5, ratios={"generator.conv1": 0.9, "generator.start": 0.0}, exclude=("generator.last",)
    )
    share = {n: float(z.float().mean()) for n, z in zeros(sparsified(model, config).model).items()}
    assert share["generator.conv1.weight"] == pytest.approx(0.9, abs=1e-3)
    assert share["generator.start.weight"] == 0.0
    assert share["generator.conv2.weight"] == 0.5
    assert share["generator.last.weight"] == 0.0
    with pytest.raises(CallError, match=r"'ratios' names 'generator.conv', .*did you mean 'generator.conv"):
        sparsified(model, weights(ratios={"generator.conv": 0.9}))


@pytest.mark.parametrize("make", MAKERS)
def test_a_pattern_holds_in_every_group_along_the_inputs(make: Any) -> None:
    done = sparsified(make(), weights(pattern="1:4"))
    found = slots(done.model)[0]
    for name, pattern in patterns(done.model).items():
        assert pattern == "1:4"
        groups = found[name].weight.movedim(found[name].axis, -1).reshape(-1, 4)
        assert bool(((groups != 0).sum(1) == 1).all())
        assert bool((groups.abs().amax(1) == groups.abs().sum(1)).all())
    odd = {n for n, s in found.items() if s.inputs % 4}
    assert odd == set(done.skipped)
    assert not odd & set(patterns(done.model))


def test_transposed_convolutions_count_their_inputs_on_the_other_axis() -> None:
    model = small_models.gan("transposed")
    done = sparsified(model, weights(pattern="2:4"))
    w = done.model.generator.body[3].weight  # (in, out, 4, 4)
    assert bool(((w != 0).reshape(-1, 4, *w.shape[1:]).sum(1) == 2).all())


def test_rounds_follow_the_schedule_and_zeros_never_come_back() -> None:
    model, seen = small_models.gan(), []

    def recover(cut: GenerativeModel, k: int) -> GenerativeModel:
        seen.append((sum(int(z.sum()) for z in zeros(cut).values()), zeros(cut)))
        return finetune(cut, model, split_of(model), TUNE, seed=k)

    config = weights(ratio=0.8, rounds=3, schedule="cubic", recover=6)
    done = sparsified(model, config, recover=recover)
    shares = [n / done.total for n, _ in seen]
    assert shares == pytest.approx([0.8 * (1 - (2 / 3) ** 3), 0.8 * (1 - (1 / 3) ** 3)], abs=2e-3)
    assert done.reached == pytest.approx(0.8, abs=2e-3)
    for (_, early), (_, late) in zip(seen, [*seen[1:], (0, zeros(done.model))], strict=False):
        assert all(bool((late[n] | ~early[n]).all()) for n in early)
    assert sum(isinstance(e, Sparse) for e in done.model.surgery) == 1


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_zeros_are_exact_under_momentum_decay_and_averaging(optimizer: str) -> None:
    """Held by hand: a few steps of the optimizer and of an average, looked at after every one."""
    model = sparsified(small_models.gan(), weights(ratio=0.7)).model.train()
    kept, layer = masks(model), model.generator.conv1
    average = layer.weight.detach().clone()
    with held(model):
        trained = list(model.generator.parameters())
        make = {"adam": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
        opt = make(trained, lr=0.05, weight_decay=0.1)
        for _ in range(5):
            out = model.generator(torch.randn(8, 12), torch.arange(8))
            out.square().mean().backward()
            opt.step()
            opt.zero_grad()
            average.lerp_(layer.weight.detach(), 0.3)
            gone = ~kept["generator.conv1.weight"]
            assert bool((layer.weight[gone] == 0).all())
            assert bool((average[gone] == 0).all())
            assert bool((layer.weight[~gone] != 0).all())
    assert not layer.weight._backward_hooks  # nothing is left behind


@pytest.mark.parametrize("make", MAKERS)
def test_fine_tuning_keeps_the_zeros_and_moves_the_rest(make: Any) -> None:
    model = make()
    cut = sparsified(model, weights(ratio=0.7)).model
    before = zeros(cut)
    tuned = finetune(cut, model, split_of(model), TUNE, seed=0)
    assert all(torch.equal(z, before[n]) for n, z in zeros(tuned).items())
    moved = {
        n
        for n, p in tuned.named_parameters()
        if n in before and not torch.equal(p, dict(cut.named_parameters())[n])
    }
    assert moved == set(before)
    assert tuned.surgery == cut.surgery


def test_movement_needs_training_and_prunes_what_shrank() -> None:
    model = small_models.gan()
    with pytest.raises(CallError, match="'movement' is what weights do in training"):
        sparsified(model, weights(importance="movement", train=5))

    def collect(m: GenerativeModel, names: list[str], k: int) -> tuple[GenerativeModel, dict[str, Tensor]]:
        here = dict(m.named_parameters())
        return m, {n: -torch.arange(here[n].numel()).reshape(here[n].shape).float() for n in names}

    done = sparsified(model, weights(importance="movement", train=5, rounds=2, ratio=0.4), collect=collect)
    for mask in zeros(done.model).values():
        assert not bool(mask.flatten()[: round(0.6 * mask.numel())].any())


@pytest.mark.parametrize("importance", ["taylor", "random"])
def test_the_same_seed_prunes_the_same(importance: str) -> None:
    for make in (small_models.gan, small_models.recurrent):
        one, two = (sparsified(make(), weights(importance=importance)).model for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(zeros(one).values(), zeros(two).values(), strict=True))


def test_what_is_saved_is_read_back_with_its_zeros_and_its_record(tmp_path: Path) -> None:
    done = sparsified(small_models.ddpm(), weights(pattern="2:4")).model
    save_model(done, tmp_path)
    again = load_model(tmp_path)
    assert again.surgery == done.surgery
    assert all(torch.equal(m, masks(again)[n]) for n, m in masks(done).items())
    assert torch.equal(again.sample(3, seed=5), done.sample(3, seed=5))
    with pytest.raises(NiwakiError, match=r"no weights 'unet.firs.weight' to be sparse; did you mean"):
        Sparse(("unet.firs.weight",)).apply(done)


def test_pruning_again_for_less_is_an_error_and_for_more_goes_on() -> None:
    once = sparsified(small_models.gan(), weights(ratio=0.6))
    with pytest.raises(NiwakiError, match=r"made nothing zero: .* 60%"):
        sparsified(once.model, weights(ratio=0.5))
    twice = sparsified(once.model, weights(ratio=0.8, importance="random"))
    assert twice.reached == pytest.approx(0.8, abs=1e-3)
    early, late = zeros(once.model), zeros(twice.model)
    assert all(bool((late[n] | ~early[n]).all()) for n in early)


def test_what_has_no_weights_of_its_own_is_left_alone() -> None:
    model = small_models.gan()
    model.generator.embed = nn.Embedding(10, 8)
    assert not any("embed" in n or "critic" in n or "norm" in n for n in slots(model)[0])
    model.prunable = ("generator.conv1",)
    assert set(slots(model)[0]) == {"generator.conv1.weight"}
    with pytest.raises(NiwakiError, match="no weights to prune"):
        sparsified(model, weights(exclude=("generator.conv1",)))


def test_the_table_counts_by_hand() -> None:
    model = small_models.gan()
    done = sparsified(model, weights(ratio=0.25, exclude=("generator.conv2",))).model
    rows = {r.layer: r for r in sparsity(done, model)}
    assert rows["generator.conv1.weight"] == LayerSparsity(
        "generator.conv1.weight", (16, 16, 3, 3), 2304, 576, 2304, "any"
    )
    assert rows["generator.conv2.weight"].pattern == ""
    assert [LayerSparsity.from_json(r.to_json()) for r in rows.values()] == list(rows.values())
    text = table([r.to_json() for r in rows.values()])
    assert "25.0 %" in text
    assert text.splitlines()[-1].startswith("sum")


def data(model: GenerativeModel) -> Any:
    return SimpleNamespace(train=split_of(model, 128), fingerprint="test")


def test_a_plan_prunes_trains_and_runs_in_an_engine(tmp_path: Path) -> None:
    model = small_models.gan()
    movement = weights(importance="movement", train=4, ratio=0.6, rounds=2, recover=3)
    channels = PruneConfig(ratio=0.5, round_to=1, min_width=2)
    plan = CompressConfig(steps=(movement, TUNE, channels), measure=False)
    made = compress(model, data(model), plan, workdir=tmp_path, seed=0)
    first, tuned, cut = made.records
    assert first.parameters[0] == first.parameters[1]
    assert sum(r["zero"] for r in first.sparsity) == pytest.approx(
        0.6 * sum(r["total"] for r in first.sparsity), abs=3
    )
    assert "asked for 60.00%" in first.notes[-1]
    assert tuned.sparsity == ()
    assert cut.parameters[1] < cut.parameters[0]
    assert any(r["zero"] > 0 and r["pattern"] == "any" for r in cut.sparsity)
    made_by_engine = niwaki_runtime.load(made.bundle, precision="exact").sample(5, seed=7)
    np.testing.assert_allclose(made_by_engine, made.model.sample(5, seed=7).numpy(), atol=1e-4)
    again = compress(model, data(model), plan, workdir=tmp_path, seed=0)  # found again, records and all
    assert again.records == made.records


def test_a_plan_says_what_did_nothing_and_refuses_what_lacks_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_models.gan()
    learns = weights(method="l0", train=5)
    with pytest.raises(CallError, match="needs a dataset"):
        compress(model, None, CompressConfig(steps=(learns,)), workdir=tmp_path / "a", seed=0)
    assert not (tmp_path / "a").exists()
    steps_module.step_of("prune")
    idle = Step(lambda model, config, context: Outcome(copy.deepcopy(model)), lambda config: 1)
    monkeypatch.setitem(steps_module.STEPS, "prune", idle)
    found = compress(model, None, CompressConfig(steps=(weights(),)), workdir=tmp_path / "b", seed=0)
    assert found.records[0].idle  # it goes on, and says so
    assert "as many weights are zero as before" in found.records[0].notes[0]
