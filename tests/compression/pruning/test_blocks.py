"""Whole blocks: found by their shapes, ranked by what is lost without them, gone for good."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from compression import small_models
from torch import Tensor, nn

import niwaki_runtime
from niwaki.compression import CompressConfig, PruneConfig, compress
from niwaki.compression.arithmetic import parameters
from niwaki.compression.pruning.blocks import candidates, damage, drop_blocks, droppable
from niwaki.compression.pruning.channels import pruned
from niwaki.core.contract import CallError, DataSpec, NiwakiError
from niwaki.models import load_model, save_model
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig
from niwaki.surgery.drop import Drop, Passed


class Block(nn.Module):
    """x + f(x): the sum is inside."""

    def __init__(self, w: int, size: float) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(w, 2 * w), nn.Linear(2 * w, w)
        with torch.no_grad():
            self.two.weight.mul_(size)
            self.two.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.relu(self.one(x)))


class Branch(Block):
    """f(x): the sum is around it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(x)))


class Tower(nn.Module):
    def __init__(self, sizes: tuple[float, ...] = (1.0, 0.01, 0.5), w: int = 16) -> None:
        super().__init__()
        self.start, self.last = nn.Linear(12, w), nn.Linear(w, 64)
        self.blocks = nn.ModuleList(Block(w, s) for s in sizes)
        self.branch = Branch(w, 0.02)
        self.skipped: set[str] = set()  # for the network that is written by hand

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.start(z)
        for k, block in enumerate(self.blocks):
            h = h if f"blocks.{k}" in self.skipped else block(h)
        if "branch" not in self.skipped:
            h = h + self.branch(x=h)
        return torch.tanh(self.last(h)).unflatten(1, (1, 8, 8))


def tower() -> small_models.SmallGan:
    torch.manual_seed(0)
    model = small_models.SmallGan(small_models.Config(), small_models.IMAGE)
    model.generator = Tower()
    return model.eval()


def blocks(**settings: object) -> PruneConfig:
    return PruneConfig(what="blocks", **settings)  # type: ignore[arg-type]


def test_blocks_are_found_by_what_they_are_given_and_return() -> None:
    found, _ = candidates(tower())
    assert {d.module for d in found} == {
        "generator.blocks.0",
        "generator.blocks.1",
        "generator.blocks.2",
        "generator.branch",
    }
    assert {d.source for d in found if d.module == "generator.branch"} == {"x"}
    unet = {d.module for d in candidates(small_models.ddpm())[0]}
    assert {"unet.down1", "unet.attention", "unet.middle"} <= unet
    assert not unet & {
        "unet",
        "unet.down2",
        "unet.pool",
        "unet.middle.conv1",
        "unet.attention.out",
        "unet.norm",
    }


def test_what_matters_least_goes_and_the_rest_is_a_network_written_without_it() -> None:
    model = tower()
    done = drop_blocks(model, blocks(count=2))
    assert set(done.damage) == {"generator.blocks.1", "generator.branch"}
    assert all(v < 0.1 for v in done.damage.values())
    assert min(done.kept.values()) > 2 * max(done.damage.values())
    fills = {e.module: e.fill for e in done.model.surgery}
    assert fills == {"generator.blocks.1": "input", "generator.branch": "zeros"}
    by_hand = tower()
    by_hand.generator.skipped = {"blocks.1", "branch"}
    assert torch.equal(done.model.sample(9, seed=3), by_hand.sample(9, seed=3))
    assert parameters(done.model) == parameters(by_hand) < parameters(model)
    assert model.surgery == ()


def test_a_share_of_the_blocks_is_counted_over_those_that_can_go() -> None:
    done = drop_blocks(tower(), blocks(ratio=0.5, exclude=("generator.branch",)))
    assert len(done.damage) == 2  # of three, rounded
    assert done.skipped["generator.branch"].endswith("is excluded")


def test_damage_is_in_units_of_the_samples_spread_and_of_tokens_a_share() -> None:
    a = torch.tensor([0.0, 2.0])
    assert damage(a, a + 1.0) == pytest.approx(1.0 / a.std().item())
    assert damage(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])) == 0.25
    assert damage(a, torch.tensor([0.0, float("nan")])) == float("inf")


def test_where_nothing_can_be_dropped_it_is_said() -> None:
    with pytest.raises(NiwakiError, match="no block can be dropped"):
        drop_blocks(small_models.recurrent(), blocks(count=1))
    with pytest.raises(NiwakiError, match="only 4 of 9 blocks can be dropped"):
        drop_blocks(tower(), blocks(count=9))


def test_a_flow_loses_layers_of_its_conditioners_and_stays_invertible() -> None:
    done = drop_blocks(small_models.flow(), blocks(count=2)).model.double()
    assert {type(m) for n, m in done.named_modules() if n in {e.module for e in done.surgery}} == {Passed}
    x = torch.randn(32, 6, dtype=torch.float64)
    torch.testing.assert_close(done.invert(done.encode(x)), x, rtol=0, atol=1e-12)


def test_a_dropped_block_stays_away_on_disk_and_other_cuts_still_fit(tmp_path: Path) -> None:
    done = drop_blocks(small_models.ddpm(), blocks(count=2)).model
    save_model(done, tmp_path)
    again = load_model(tmp_path)
    assert again.surgery == done.surgery
    assert torch.equal(again.sample(3, seed=5), done.sample(3, seed=5))
    cut = pruned(done, PruneConfig(ratio=0.5, round_to=1, min_width=2)).model
    save_model(cut, tmp_path / "cut")
    assert torch.equal(load_model(tmp_path / "cut").sample(2, seed=1), cut.sample(2, seed=1))
    with pytest.raises(NiwakiError, match=r"no block 'unet.midle' to drop; did you mean 'unet.middle'"):
        Drop("unet.midle").apply(small_models.ddpm())


def test_a_plan_drops_exports_and_runs_without_the_block(tmp_path: Path) -> None:
    model = small_models.flow()
    split = SimpleNamespace(train=None, fingerprint="none")
    made = compress(
        model, split, CompressConfig(steps=(blocks(count=1),), measure=False), workdir=tmp_path, seed=0
    )
    (record,) = made.records
    assert record.parameters[1] < record.parameters[0]
    assert record.macs[1] < record.macs[0]
    (name,) = [e.module for e in made.model.surgery]
    assert record.notes == (f"dropped '{name}': samples moved by {float(record.notes[0].split()[-1]):.3g}",)
    assert {r["layer"] for r in record.sparsity if r["pattern"] == "dropped"} == {name}
    engine = niwaki_runtime.load(made.bundle, precision="exact").sample(3, seed=2)
    np.testing.assert_allclose(engine, made.model.sample(3, seed=2).numpy(), atol=1e-4)


def writer() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(width=16, depth=3, heads=2, stride=4, dropout=0.0)
    return Transformer(config, DataSpec.of("text", (8,), levels=20)).eval()


def test_a_block_of_a_list_that_no_forward_call_goes_through_is_taken_out_with_its_state(
    tmp_path: Path,
) -> None:
    model = writer()
    options, _ = droppable(model)
    assert {n for n, drop in options.items() if drop.fill == "absent"} == {f"blocks.{k}" for k in range(3)}
    done = drop_blocks(model, blocks(blocks=("blocks.1",))).model
    assert [name for name, _ in done.blocks.named_children()] == ["0", "2"]
    assert len(done.carried()) == len(model.carried()) - 2
    by_hand = writer()
    by_hand.blocks = nn.ModuleList([by_hand.blocks[0], by_hand.blocks[2]])
    assert torch.equal(done.sample(5, seed=3), by_hand.sample(5, seed=3))
    save_model(done, tmp_path)
    again = load_model(tmp_path)
    assert again.surgery == done.surgery
    assert torch.equal(again.sample(5, seed=3), done.sample(5, seed=3))


def test_named_blocks_go_whatever_they_do() -> None:
    done = drop_blocks(tower(), blocks(blocks=("generator.blocks.0", "generator.branch")))
    assert {e.module: e.fill for e in done.model.surgery} == {
        "generator.blocks.0": "input", "generator.branch": "zeros",
    }  # fmt: skip
    by_hand = tower()
    by_hand.generator.skipped = {"blocks.0", "branch"}
    assert torch.equal(done.model.sample(9, seed=3), by_hand.sample(9, seed=3))
    with pytest.raises(NiwakiError, match=r"'generator\.start' cannot be dropped"):
        drop_blocks(tower(), blocks(blocks=("generator.start",)))
    with pytest.raises(CallError, match="no 'count' beside it"):
        blocks(blocks=("generator.branch",), count=2)


def test_zeros_are_contiguous_for_what_follows_them() -> None:
    """torch breaks down on the way back through a GroupNorm of channels_last values without a gradient."""
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    out = Passed("0", "zeros")(x)
    assert out.is_contiguous()
    assert not out.any()
    norm = nn.GroupNorm(2, 8)
    norm(out).sum().backward()
    assert norm.bias.grad is not None
