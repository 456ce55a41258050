"""Packing as a step of a plan: last, once, after anything, and never for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models

import niwaki_runtime
from niwaki.compression import CompressConfig, FinetuneConfig, QuantizeConfig, check_order, compress
from niwaki.compression.storage.config import PackConfig, ShareConfig
from niwaki.core.contract import CallError
from niwaki.deployment import bundle_bytes

SHARE, PACK = ShareConfig(clusters=8), PackConfig()
QUANTIZE = QuantizeConfig(calibration=24)


def model() -> small_models.SmallGan:
    torch.manual_seed(0)
    return small_models.gan("plain", width=48).eval()


def plan(*steps: Any, measure: bool = False) -> CompressConfig:
    return CompressConfig(steps=steps, measure=measure, batches=(1,), rounds=1)


def step_bundle(workdir: Path, name: str) -> Path:
    return workdir / "steps" / name / "model.niwaki"


def test_share_and_pack(tmp_path: Path) -> None:
    """Eight values take three bits of thirty-two; the samples are those of the shared model."""
    made = compress(model(), None, plan(SHARE, PACK), workdir=tmp_path, seed=0)
    shared, packed = made.records
    assert (shared.kind, packed.kind) == ("share", "pack")
    assert packed.bytes == bundle_bytes(made.bundle) < 0.7 * shared.bytes
    assert "bytes before" in packed.notes[0]
    assert "share 8 weights" in shared.notes[0]
    a, b = (
        niwaki_runtime.load(p, precision="exact").sample(5, seed=0)
        for p in (made.bundle, step_bundle(tmp_path, "1-share"))
    )
    assert np.array_equal(a, b)
    np.testing.assert_allclose(a, made.model.sample(5, seed=0).numpy(), atol=1e-4)
    assert packed.error == shared.error > 0


def test_integers_are_packed_as_they_are(tmp_path: Path) -> None:
    made = compress(model(), None, plan(QUANTIZE, PACK, measure=True), workdir=tmp_path, seed=0)
    quantized, packed = made.records
    assert packed.quantized == quantized.quantized
    assert packed.quantized["generator"]["quantized"] > 0
    assert packed.bytes < quantized.bytes
    assert set(packed.latency) == {"1"}
    a, b = (
        niwaki_runtime.load(p).sample(5, seed=0) for p in (made.bundle, step_bundle(tmp_path, "1-quantize"))
    )
    assert np.array_equal(a, b)


def test_floats_alone(tmp_path: Path) -> None:
    made = compress(model(), None, plan(PACK), workdir=tmp_path, seed=0)
    assert niwaki_runtime.inspect(made.bundle).packed
    assert torch.equal(made.model.sample(2, seed=0), model().sample(2, seed=0))
    assert made.records[0].error < 1e-4


def test_finished_steps_are_found_again(tmp_path: Path) -> None:
    """Also where the step before was carried out without a bundle to pack."""
    compress(model(), None, plan(SHARE, ShareConfig(clusters=4)), workdir=tmp_path, seed=0)
    assert not step_bundle(tmp_path, "1-share").exists()
    one = compress(model(), None, plan(SHARE, PACK), workdir=tmp_path, seed=0)
    mark = (tmp_path / "steps" / "2-pack" / "record.json").stat().st_mtime_ns
    two = compress(model(), None, plan(SHARE, PACK), workdir=tmp_path, seed=0)
    assert (tmp_path / "steps" / "2-pack" / "record.json").stat().st_mtime_ns == mark
    assert one.records == two.records


def test_a_pack_that_saves_nothing_leaves_the_bundle_as_it_is(tmp_path: Path) -> None:
    made = compress(small_models.gan("plain", width=2).eval(), None, plan(PACK), workdir=tmp_path, seed=0)
    assert "nothing to do: packing " in made.records[0].notes[0]
    assert niwaki_runtime.load(made.bundle).sample(2, seed=0).shape[0] == 2


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((PACK, PACK), "packed already; keep one 'pack'"),
        ((PACK, QUANTIZE), "put 'pack' last"),
        ((PACK, SHARE), "put 'pack' last"),
        ((PACK, FinetuneConfig()), "put 'pack' last"),
        ((QUANTIZE, SHARE), "integers"),
    ],
)
def test_orders_that_make_no_sense(steps: tuple, text: str) -> None:
    with pytest.raises(CallError, match=text):
        check_order(steps)


def test_from_a_recipe() -> None:
    config = CompressConfig.model_validate({"steps": [{"kind": "share", "clusters": 32}, {"kind": "pack"}]})
    assert config.steps == (ShareConfig(clusters=32), PACK)
