"""A step that finds nothing to do says so, and the plan goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models
from torch import nn

import niwaki_runtime
from niwaki.compression import CompressConfig, compress
from niwaki.compression.distillation import temperature
from niwaki.core.contract import GenerativeModel

SHARE = {"kind": "share", "clusters": 16}


def gan(kind: str = "plain", width: int = 8) -> GenerativeModel:
    torch.manual_seed(0)
    return small_models.gan(kind, width=width).eval()


@pytest.mark.parametrize(
    ("make", "step", "said"),
    [
        (gan, {"kind": "prune", "ratio": 0.5, "round_to": 64}, "pruning cut nothing: with round_to=64"),
        (gan, {"kind": "prune", "ratio": 0.01, "min_width": 8}, "pruning cut nothing"),
        (gan, {"kind": "prune", "exclude": ["generator", "critic"]}, "pruning cut nothing"),
        (gan, {"kind": "sampling", "temperature": 1.0}, "the step 'sampling' changed nothing"),
        (gan, {"kind": "sampling", "temperature": "match"}, "the step 'sampling' changed nothing"),
        (gan, {"kind": "share", "exclude": ["generator", "critic"]}, "sharing changed nothing"),
        (lambda: gan(width=2), {"kind": "pack"}, "packing "),
    ],
)  # fmt: skip
def test_the_model_stays_and_the_reason_is_told(tmp_path: Path, make: Any, step: dict, said: str) -> None:
    model = make()
    after = [] if step["kind"] == "pack" else [SHARE]
    plan = CompressConfig.model_validate({"steps": [step, *after], "measure": step["kind"] == "pack"})
    made = compress(model, None, plan, workdir=tmp_path, seed=0)
    first = made.records[0]
    assert first.idle
    assert first.notes[0].startswith("nothing to do: ")
    assert said in first.notes[0]
    assert first.error < 1e-4
    assert [record.idle for record in made.records[1:]] == [False] * len(after)
    again = compress(make(), None, plan, workdir=tmp_path, seed=0)
    assert [r.to_json() for r in again.records] == [r.to_json() for r in made.records], "found again"


def test_an_idle_step_after_others_keeps_their_bundle(tmp_path: Path) -> None:
    steps = [{**SHARE, "clusters": 2}, {"kind": "prune", "round_to": 64}]
    plan = CompressConfig.model_validate({"steps": steps, "measure": False})
    made = compress(gan(), None, plan, workdir=tmp_path, seed=0)
    assert [record.idle for record in made.records] == [False, True]
    bundle = niwaki_runtime.load(made.bundle, precision="exact")
    np.testing.assert_allclose(bundle.sample(4, seed=1), made.model.sample(4, seed=1).numpy(), atol=1e-4)
    assert made.records[0].error > 0.01
    assert made.records[1].error == pytest.approx(made.records[0].error, rel=1e-4)


@pytest.mark.parametrize(("share", "advice"), [(0.99, False), (0.5, True)])
def test_where_no_temperature_matches_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, advice: bool
) -> None:
    """Distances that do not follow the temperature, as with few small pictures."""
    seen: list[nn.Module] = []

    def distance(features: np.ndarray, groups: np.ndarray) -> float:
        seen.append(features)  # the teacher is asked first
        return 1.0 if len(seen) == 1 else share

    monkeypatch.setattr(temperature, "mean_distance", distance)
    plan = CompressConfig.model_validate(
        {"steps": [{"kind": "sampling", "temperature": "match"}], "measure": False}
    )
    (record,) = compress(gan(), None, plan, workdir=tmp_path, seed=0).records
    assert record.idle
    assert "no temperature between 0.5 and 2.0 brings the samples as far from each other" in record.notes[0]
    assert ("train on first" in record.notes[0]) is advice
