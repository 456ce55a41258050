"""Every architecture of the zoo: pruned by 30 % and by 50 %, it runs, trains, reloads and exports; where
nothing can be cut, that is said."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from prunability.examine import Reader, examine
from prunability.zoo import CASES

from niwaki.compression import prune
from niwaki.compression.forward import outputs
from niwaki.core.contract import NiwakiError


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    one = Reader()
    yield one
    one.close()


def cases() -> Iterator[object]:
    for one in CASES.values():
        if not one.refuses:
            yield pytest.param(one.name, marks=() if one.fast else pytest.mark.slow)


@pytest.mark.parametrize("ratio", [pytest.param(0.3, marks=pytest.mark.slow), 0.5])
@pytest.mark.parametrize("name", cases())
def test_an_architecture_prunes_runs_trains_reloads_and_exports(
    name: str, ratio: float, tmp_path: Path, reader: Reader
) -> None:
    one = CASES[name]
    found = examine(one, ratio, tmp_path, reader)
    assert found.after <= found.before * one.leaves


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of copied TorchScript
@pytest.mark.parametrize("name", [one.name for one in CASES.values() if one.refuses])
def test_an_architecture_that_cannot_be_cut_is_refused_with_the_reason_and_left_as_it_was(name: str) -> None:
    one = CASES[name]
    model = one.model()
    weights, before = copy.deepcopy(model.state_dict()), outputs(model)
    with pytest.raises(NiwakiError, match=one.refuses) as refusal:
        prune(model, ratio=0.5, round_to=1, min_width=2)
    assert "\n" not in str(refusal.value)  # a sentence, not somebody's traceback
    assert not model.surgery
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(model), strict=True))


def test_the_zoo_is_as_large_as_promised() -> None:
    assert sum(not one.refuses for one in CASES.values()) >= 60
    assert sum(one.fast for one in CASES.values()) >= 10
