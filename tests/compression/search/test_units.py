"""What can be chosen of a small transformer: heads, widths, bits, blocks; what a choice leaves of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from niwaki.compression.arithmetic import layer_costs, parameters
from niwaki.compression.config import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.compression.live_memory import live_memory
from niwaki.compression.pruning.blocks import drop_blocks
from niwaki.compression.search.choices import FLOAT, HALF, Choices, Template
from niwaki.compression.search.profile import profile_of
from niwaki.compression.search.units import Units
from niwaki.core.contract import DataSpec
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig


@pytest.fixture(scope="module")
def units() -> Units:
    torch.manual_seed(0)
    config = TransformerConfig(width=32, depth=4, heads=4, stride=4, dropout=0.0)
    model = Transformer(config, DataSpec.of("text", (8,), levels=20)).eval()
    prune = PruneConfig(min_width=1, round_to=1)
    return Units(model, Template(prune, FinetuneConfig(), QuantizeConfig(), inputs=False), memory=True)


def test_heads_widths_and_blocks_of_a_cached_transformer_are_found(units: Units) -> None:
    assert units.blocks == tuple(f"blocks.{k}" for k in range(4))
    assert units.couplings == {
        "embed": 32,
        **{f"blocks.{k}.attention.q": 4 for k in range(4)},
        **{f"blocks.{k}.up": 128 for k in range(4)},
    }


def test_a_profile_without_blocks_is_that_of_the_model_without_them(units: Units) -> None:
    choices = units.uniform(0.5, 8, dropped=("blocks.1", "blocks.2"))
    found = units.profile(choices)
    config = PruneConfig(what="blocks", blocks=("blocks.1", "blocks.2"))
    made = drop_blocks(units.cut(choices.left(choices.ratios)), config).model
    live = live_memory(made).peak
    assert found == profile_of(layer_costs(made), choices, passes=units.passes, live=live)
    assert 0 < live < units.live.peak
    assert not any(layer.startswith(("blocks.1", "blocks.2")) for layer, *_ in found.work)
    assert parameters(units.cut({}, ("blocks.1",))) < parameters(units.model)
    assert units.profile(choices.without(ratios={**choices.ratios, "blocks.1.up": 0.9})) == found


def test_half_precision_is_stored_in_two_bytes_and_multiplied_as_floats(units: Units) -> None:
    whole, half = (units.profile(Choices({}, dict.fromkeys(units.layers, b))) for b in (8, HALF))
    layers = set(units.layers)
    assert {precision for layer, _, precision in whole.work if layer in layers} == {"integer"}
    assert {precision for *_, precision in half.work} == {"float"}
    assert half.stored[HALF] == whole.stored[8]
    assert half.stored[FLOAT] == whole.stored[FLOAT]


def test_blocks_go_in_the_order_of_their_damage_up_to_half_of_them(units: Units) -> None:
    damage = {"blocks.0": 9.0, "blocks.1": 1.0, "blocks.2": 0.5, "blocks.3": 3.0}
    assert units.nested(damage) == [("blocks.2",), ("blocks.2", "blocks.1")]
    others = SimpleNamespace(blocks=("a", "a.mlp", "b", "c", "d", "e", "f", "g"))
    cost = {"a": 5.0, "a.mlp": 0.1, "b": 1.0, "c": 2.0, "d": 3.0, "e": 4.0, "f": 6.0, "g": 7.0}
    found = Units.nested(others, cost)  # type: ignore[arg-type]
    assert found == [("a.mlp",), ("a.mlp", "b"), ("a.mlp", "b", "c")]  # never a block within another
