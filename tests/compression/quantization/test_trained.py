"""Quantized models trained on: what rounding took comes back, and the settings reach the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compression.quantization.test_convert import config, lively
from compression.test_plan import data

from niwaki.compression import CompressConfig, FinetuneConfig, PruneConfig, compress
from niwaki.compression.distillation import finetune as finetuning
from niwaki.compression.quantization.convert import quantize_model
from niwaki.core.contract import GenerativeModel
from niwaki.models import load_model
from niwaki.surgery.quantized import Quantizer, quantized_layers


@pytest.mark.parametrize("steps", ["train", pytest.param("joint", marks=pytest.mark.slow)])
def test_training_with_rounded_weights_brings_the_samples_back(steps: str, tmp_path: Path) -> None:
    model = lively("upsampling")
    tune = FinetuneConfig(
        steps=60,
        batch=64,
        precision="fp32",
        device="cpu",
        warmup=0,
        task_loss_weight=0.0,
        spread=0.0,
        lr=2e-3,
    )
    low = config(bits=3)
    wanted = model.sample(64, seed=1)

    def error(other: GenerativeModel) -> float:
        return float((other.sample(64, seed=1) - wanted).abs().mean() / wanted.std())

    if steps == "train":
        from niwaki.compression.distillation.finetune import finetune

        before = quantize_model(model, low).model
        after = finetune(before, model, data().train, tune, seed=0)
    else:
        plan = CompressConfig(steps=(PruneConfig(ratio=0.3, round_to=1), low, tune), measure=False)
        made = compress(model, data(), plan, workdir=tmp_path, seed=0)
        before, after = load_model(tmp_path / "steps" / "2-quantize"), made.model
        assert made.records[-1].quantized["generator"]["quantized"] == 4
        assert made.records[-1].error < 0.8 * made.records[1].error
    assert error(after) < 0.8 * error(before)
    scales = [
        {n: m.log_scale.clone() for n, m in one.named_modules() if isinstance(m, Quantizer)}
        for one in (before, after)
    ]
    assert all((scales[0][n] != scales[1][n]).any() for n in scales[0])  # scales are learned, too
    assert all(isinstance(m.weight_quantizer, Quantizer) for m in quantized_layers(after).values())


@pytest.mark.slow
@pytest.mark.parametrize("followed", [False, True])
def test_the_batch_of_the_training_is_the_one_asked_for(
    followed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FinetuneConfig] = []
    whole = finetuning.finetune

    def noted(model: Any, teacher: Any, split: Any, settings: FinetuneConfig, **more: Any) -> Any:
        seen.append(settings)
        return whole(model, teacher, split, settings, **more)

    monkeypatch.setattr(finetuning, "finetune", noted)
    tune = FinetuneConfig(steps=1, batch=4, precision="fp32", device="cpu")
    for batch, expected in ((None, 4 if followed else 128), (8, 8)):
        steps = (config(train=1, batch=batch), *((tune,) if followed else ()))
        plan = CompressConfig(steps=steps, measure=False)
        compress(lively("upsampling"), data(), plan, workdir=tmp_path / str(batch), seed=0)
        assert (seen[0].steps, seen[0].batch) == (1, expected)
        seen.clear()
