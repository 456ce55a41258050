"""How long encoders are trained, and what is said of it beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from features.toys import toy
from torch import nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.features import build, selfsupervised
from niwaki.features.budget import BUDGET, FEWEST, affordable_steps, expected_seconds, multiplications
from niwaki.features.encoders import build_encoder, encoder_names, registered_encoder
from niwaki.features.selfsupervised import encoder_steps


@pytest.mark.parametrize(
    ("network", "shape", "count"),
    [
        (nn.Linear(6, 5), (6,), 30),
        (nn.Conv1d(2, 3, 5, padding=2), (2, 40), 2 * 3 * 5 * 40),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 8, 8), 3 * 4 * 9 * 16),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), (4, 8, 8), 2 * 4 * 9 * 64),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)), (3, 2, 2), 48 + 8),
        (nn.Tanh(), (6,), 0),
    ],
)
def test_multiplications_are_those_of_the_definition(
    network: nn.Module, shape: tuple[int, ...], count: int
) -> None:
    kind = {1: "vector", 2: "series", 3: "image"}[len(shape)]
    network.train()
    assert multiplications(network, DataSpec.of(kind, shape)) == count
    assert network.training, "it is left as it was"


@pytest.mark.parametrize("name", encoder_names())
@pytest.mark.parametrize("side", [8, 32, 64])
def test_large_pictures_take_fewer_steps_and_no_more_work(name: str, side: int) -> None:
    kind = registered_encoder(name)
    spec = DataSpec.of("image", (3, side, side))
    try:
        encoder = build_encoder(name, {}, spec)
    except CallError:  # it looks at clips
        spec = DataSpec.of("video", (8, 3, side, side))
        encoder = build_encoder(name, {}, spec)
    steps = affordable_steps(encoder, spec, kind.batch, views=kind.views)
    work = steps * multiplications(encoder, spec) * kind.batch * kind.views * 3
    assert steps == FEWEST or work <= BUDGET
    assert steps >= FEWEST


def test_steps_follow_from_the_data_and_from_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(selfsupervised, "fitted", lambda *_, train, **__: seen.append(train["steps"]))
    for side, n in ((8, 300), (8, 300), (32, 3000), (64, 300)):
        build(["simclr"], toy((3, side, side), n=n, classes=0))
    assert seen[0] == seen[1] == 600, "small pictures: as many passes as ever"
    assert 600 < seen[2] < encoder_steps(3000, 256), "a large set of larger ones: as many as are affordable"
    assert FEWEST <= seen[3] < 600


@pytest.mark.parametrize("name", ["simclr", "moco", "mae", "classifier"])
def test_how_long_it_takes_is_told_before_it_begins_and_only_then(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from niwaki.features import classifier

    monkeypatch.setattr(selfsupervised, "encoder_steps", lambda n, batch: 4)
    monkeypatch.setattr(classifier, "_steps", lambda n: 4)
    events: list[Any] = []
    asked: dict[str, Any] = {
        "cache": tmp_path,
        "progress": lambda *event: events.append("step"),
        "announce": lambda *event: events.append(event),
    }
    dataset = toy((1, 8, 8))
    build([name], dataset, **asked)
    assert events[0][:2] == (name, 4)
    assert 0 < events[0][2] < 60
    assert "step" in events[1:]
    assert [event for event in events if event != "step"] == events[:1]
    events.clear()
    build([name], dataset, **asked)
    assert events == [], "from the cache"
    build(["random"], dataset, **asked)
    assert events == [], "nothing is trained"


def test_trying_a_step_changes_nothing(tmp_path: Path) -> None:
    dataset = toy((1, 8, 8))
    encoder = build_encoder("moco", {"width": 16}, dataset.spec)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert expected_seconds(encoder, dataset, {"batch": 16, "steps": 10}) > 0
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
