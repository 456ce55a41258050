"""A plan: what is measured was read back from disk, finished steps are found again, nonsense is refused
beforehand."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models
from pydantic import ValidationError

import niwaki_runtime
from niwaki.adapters import adapt
from niwaki.compression import CompressConfig, FinetuneConfig, PruneConfig, QuantizeConfig, compress, prune
from niwaki.compression import steps as steps_module
from niwaki.compression.arithmetic import macs, parameters
from niwaki.compression.finished import drop_superseded
from niwaki.compression.record import Record
from niwaki.compression.steps import Outcome, Step, StepContext, step_of
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json, read_tensors, write_tensors
from niwaki.data import Split
from niwaki.models import load_model
from niwaki.recipe import apply_overrides

PRUNE = PruneConfig(ratio=0.5, round_to=1, min_width=2)
TUNE = FinetuneConfig(steps=6, batch=32, precision="fp32", device="cpu", warmup=0)
QUANTIZE = QuantizeConfig(backend="nncf", calibration=24)


def data() -> Any:
    torch.manual_seed(1)
    split = Split.of(small_models.IMAGE, torch.rand(128, 1, 8, 8) * 2 - 1, torch.arange(128) % 10)
    return SimpleNamespace(train=split, fingerprint="test")


def plan(*steps: Any, **settings: Any) -> CompressConfig:
    return CompressConfig(steps=steps, measure=False, **settings)


@pytest.mark.slow
def test_the_whole_plan_on_a_gan(tmp_path: Path) -> None:
    model = small_models.gan("transposed", width=32).eval()
    before = copy.deepcopy(model.state_dict())
    config = CompressConfig(steps=(PRUNE, TUNE, QUANTIZE), batches=(1, 3), rounds=2)
    seen: dict[tuple[int, str], list[tuple[int, int]]] = {}
    made = compress(
        model, data(), config, workdir=tmp_path, seed=0,
        on_step=lambda k, kind: seen.__setitem__((k, kind), []),
        progress=lambda d, t, i: list(seen.values())[-1].append((d, t)),
    )  # fmt: skip
    assert [r.kind for r in made.records] == ["prune", "finetune", "quantize"]
    first, tuned, last = made.records
    assert first.parameters == (parameters(model), parameters(made.model))
    assert first.parameters[1] < first.parameters[0]
    assert first.macs[1] < first.macs[0]
    assert first.widths["generator.body.0:out"] == (64, 32)
    assert tuned.quantized["generator"]["quantized"] == 0
    assert last.quantized["generator"] == {"ConvTranspose": 3, "quantized": 3, "total": 3}
    assert last.bytes < tuned.bytes
    assert all(np.isfinite(r.error) and r.error > 0 for r in made.records)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(set(r.latency) == {"1", "3"} and min(r.latency.values()) > 0 for r in made.records)
    # every step tells that it begins, and its progress rises to its end
    assert list(seen) == [(1, "prune"), (2, "finetune"), (3, "quantize")]
    assert seen[2, "finetune"][-1] == (TUNE.steps, TUNE.steps)
    assert all(a[0] <= b[0] for told in seen.values() for a, b in pairwise(told))
    # the bundle runs and is what the record says of it
    sampled = niwaki_runtime.load(made.bundle, precision="exact").sample(64, seed=3 << 40)
    reference = model.sample(64, seed=3 << 40).numpy()
    assert last.error == pytest.approx(np.abs(sampled - reference).mean() / reference.std(), rel=1e-4)
    # the float model on disk is the one returned
    again = load_model(tmp_path)
    assert torch.equal(again.sample(4, seed=1), made.model.sample(4, seed=1))
    kept = [Record.from_json(r) for r in read_json(tmp_path / "compression.json")["steps"]]
    assert kept == made.records


def test_finished_steps_are_found_again_and_only_the_rest_is_redone(tmp_path: Path) -> None:
    """Without integers, which take seconds: they are one step like the others."""
    model, marks = (
        small_models.gan(),
        lambda: {p.parent.name: p.stat().st_mtime_ns for p in tmp_path.glob("steps/*/record.json")},
    )
    one = compress(model, data(), plan(PRUNE, TUNE), workdir=tmp_path, seed=0)
    first = marks()
    two = compress(model, data(), plan(PRUNE, TUNE), workdir=tmp_path, seed=0)
    assert marks() == first
    assert two.records == one.records
    assert torch.equal(two.model.sample(2, seed=0), one.model.sample(2, seed=0))
    changed = TUNE.model_copy(update={"steps": 7})
    compress(model, data(), plan(PRUNE, changed), workdir=tmp_path, seed=0)
    assert {k for k, v in marks().items() if v == first[k]} == {"1-prune"}
    with torch.no_grad():
        model.generator.conv1.weight.mul_(1.01)  # other input weights: nothing is reused
    second = marks()
    compress(model, data(), plan(PRUNE, changed), workdir=tmp_path, seed=0)
    assert not {k for k, v in marks().items() if v == second[k]}


def test_a_plan_goes_on_from_its_last_state_where_superseded_ones_are_gone(tmp_path: Path) -> None:
    """Their records stay; a call with a longer plan has the same bits as one that found everything."""
    more = TUNE.model_copy(update={"steps": 3})
    whole = compress(
        small_models.gan(), data(), plan(PRUNE, TUNE, more), workdir=tmp_path / "whole", seed=0, bundle=False
    )
    thin, short = tmp_path / "thin", plan(PRUNE, TUNE)
    compress(small_models.gan(), data(), short, workdir=thin, seed=0, bundle=False)
    drop_superseded(thin, short.steps, {1})
    left = sorted(str(p.relative_to(thin / "steps")) for p in thin.glob("steps/*/*.safetensors"))
    assert left == ["2-finetune/model.safetensors"]
    marks = (thin / "steps/2-finetune/record.json").stat().st_mtime_ns
    made = compress(small_models.gan(), data(), plan(PRUNE, TUNE, more), workdir=thin, seed=0, bundle=False)
    assert (thin / "steps/2-finetune/record.json").stat().st_mtime_ns == marks
    assert [r.kind for r in made.records] == ["prune", "finetune", "finetune"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, made.model.state_dict()[name])
    other = compress(small_models.gan(), data(), plan(PRUNE), workdir=thin, seed=0, bundle=False)
    assert [r.kind for r in other.records] == ["prune"]  # its weights were gone: it is carried out again


def test_what_counts_is_what_was_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that do not survive the disk are noticed: here the file is altered between writing and
    reading."""
    from niwaki.compression import reload

    def spoiled(model: Any, directory: Path) -> Path:
        saved(model, directory)
        tensors = read_tensors(directory / "model.safetensors")
        tensors["generator.last.weight"] += 1e-3
        write_tensors(directory / "model.safetensors", tensors)
        return directory

    saved = reload.save_model
    monkeypatch.setattr(reload, "save_model", spoiled)
    with pytest.raises(NiwakiError, match="computes something else"):
        compress(small_models.gan(), None, plan(PRUNE), workdir=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((QUANTIZE, PRUNE), r"step 2 \('prune'\) needs weights to change"),
        ((PRUNE, QUANTIZE, TUNE), r"step 3 \('finetune'\) needs weights to change"),
        ((QUANTIZE, QUANTIZE), "would quantize a model that is quantized already"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_before_anything_is_done(
    steps: tuple[Any, ...], text: str, tmp_path: Path
) -> None:
    with pytest.raises(CallError, match=text):
        plan(*steps)
    forced = CompressConfig.model_construct(steps=steps, batches=(1,), rounds=1, measure=False)
    with pytest.raises(CallError, match=text):
        compress(small_models.gan(), data(), forced, workdir=tmp_path / "none", seed=0)
    assert not (tmp_path / "none").exists()


def test_steps_are_told_apart_by_their_kind_and_unknown_keys_are_refused() -> None:
    config = CompressConfig.model_validate({"steps": [{"kind": "prune", "ratio": 0.7}, {"kind": "quantize"}]})
    assert config.steps == (PruneConfig(ratio=0.7), QuantizeConfig())
    assert CompressConfig.model_validate(config.model_dump(mode="json")) == config
    for wrong in ({"kind": "prun"}, {"kind": "prune", "ration": 0.5}, {"kind": "prune", "ratio": 1.0}):
        with pytest.raises(ValidationError):
            CompressConfig.model_validate({"steps": [wrong]})
    with pytest.raises(CallError, match="'steps' of CompressConfig must be a list of at least 1"):
        CompressConfig(steps=())


@pytest.mark.parametrize("kind", ["finetune", "distill"])
def test_the_weight_of_the_models_own_loss_is_read_by_its_former_name_too(kind: str) -> None:
    step = {"kind": kind, **({"student": {"width": 8}} if kind == "distill" else {})}

    def weight(**settings: float) -> float:
        (read,) = CompressConfig.model_validate({"steps": [{**step, **settings}]}).steps
        assert "own" not in read.model_dump()
        return read.task_loss_weight  # type: ignore[union-attr]

    assert weight(own=0.25) == weight(task_loss_weight=0.25) == 0.25
    for first, second in (("own", "task_loss_weight"), ("task_loss_weight", "own")):
        plan = {"compress": {"steps": [{**step, first: 0.5}, {"kind": "quantize"}]}}
        found = apply_overrides(plan, [f"compress.steps.0.{second}=0"])["compress"]
        assert CompressConfig.model_validate(found).steps[0].task_loss_weight == 0.0  # type: ignore[union-attr]
    with pytest.raises(ValidationError, match="task_loss_weight"):
        weight(own=-1.0)


@pytest.mark.parametrize(
    ("step", "text"), [(PRUNE, "as many parameters"), (TUNE, "all weights are as before")]
)
def test_a_step_that_did_nothing_is_told(
    step: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_module.step_of(step.kind)  # registers the real ones first
    idle = Step(lambda model, config, context: Outcome(copy.deepcopy(model)), lambda config: 1)
    monkeypatch.setitem(steps_module.STEPS, step.kind, idle)
    (record,) = compress(small_models.gan(), data(), plan(step), workdir=tmp_path, seed=0).records
    assert record.idle
    assert text in record.notes[0]


def test_training_without_data_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="fine-tuning needs data"):
        compress(small_models.gan(), None, plan(TUNE), workdir=tmp_path, seed=0)


def test_pruning_in_rounds_recovers_in_between(tmp_path: Path) -> None:
    step = PRUNE.model_copy(update={"rounds": 2, "recover": 3})
    whole = small_models.gan()
    context = StepContext(whole, data(), 0, tmp_path, None, lambda done, total, info: None, TUNE)
    made = step_of("prune").carry_out(whole, step, context).model
    cuts = [c for c in made.surgery if c.module == "generator.conv1" and c.side == "out"]
    assert [len(c.keep) for c in cuts] == [12, 8]
    once = prune(whole, PRUNE)
    assert not torch.equal(once.generator.last.weight, made.generator.last.weight)  # trained in between


def test_an_adapted_module_without_a_factory_goes_the_whole_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = small_models.TransposedGenerator(12, 32, 10)
    model = adapt(module, latent=12, classes=10, spec=small_models.IMAGE)
    made = compress(model, data(), plan(PRUNE, TUNE), workdir=tmp_path, seed=0)
    assert made.records[0].parameters[1] < made.records[0].parameters[0]
    assert np.isfinite(niwaki_runtime.load(made.bundle).sample(3, seed=0)).all()


def test_arithmetic_is_counted_by_hand() -> None:
    """ConvTranspose: every input position meets every kernel position; Conv: every output position does."""
    model = small_models.gan("transposed")
    by_hand = 1 * (12 * 32 * 4) + 4 * (32 * 16 * 16) + 16 * (16 * 1 * 16)
    assert macs(model) == by_hand
    plain = small_models.gan("plain")
    assert macs(plain) == 20 * 64 + 16 * (16 * 16 * 9) + 64 * (16 * 16 * 9) + 64 * (16 * 9)
    assert parameters(plain) == sum(p.numel() for p in plain.generator.parameters())
    steps = small_models.ddpm()
    assert macs(steps) % 6 == 0  # six network evaluations for one sample
