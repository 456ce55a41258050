"""γ of R1 and R2 by a rule from the data: its values, that it is used, recorded, said, and resumed with."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from model_cases import DIGITS, POINTS, batch, context, make

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.store import read_json
from niwaki.data import Split
from niwaki.models.gan.gamma import gamma_rule
from niwaki.training import TrainConfig, fit


@pytest.mark.parametrize(
    ("side", "images", "gamma"),
    [
        (1024, 4, 52.4288),  # of StyleGAN2-ADA's `auto` for one device at 1024, 256, 128, 64 and 32 pixels
        (256, 16, 0.8192),
        (128, 32, 0.1024),
        (64, 64, 0.0128),
        (32, 64, 0.0032),
        (8, 64, 0.0002),
    ],
)
def test_the_rule_gives_what_stylegan2_ada_computes(side: int, images: int, gamma: float) -> None:
    assert gamma_rule(side * side, images) == pytest.approx(gamma, rel=1e-12)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 127.5])
def test_the_penalty_of_the_same_images_in_another_range_weighs_the_same(scale: float) -> None:
    """D(x / s) of images x s: γ(s) · ‖∇‖² does not depend on s."""
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    x = torch.rand(5, 12, dtype=torch.float64) * 2 - 1

    def weighed(s: float) -> float:
        y = (x * s).requires_grad_(True)
        (g,) = torch.autograd.grad(critic(y / s).sum(), y)
        return gamma_rule(12, 5, low=-s, high=s) * float(g.square().sum())

    assert weighed(scale) == pytest.approx(weighed(1.0), rel=1e-10)


@pytest.mark.parametrize("name", ["r3gan", "dcgan", "mlp-gan", "lsgan", "sngan"])
def test_auto_weighs_the_penalties_by_the_rule(name: str) -> None:
    model: Any = make(name, DIGITS, r1="auto", r2="auto", r1_every=2)
    fixed: Any = make(name, DIGITS, r1=gamma_rule(64, 8), r2=gamma_rule(64, 8), r1_every=2)
    fixed.load_state_dict(model.state_dict(), strict=False)
    data = batch(DIGITS, 8)
    ctx = context()
    model.begin_stage(ctx, lambda k: data)
    assert ctx.chosen["r1"][0] == ctx.chosen["r2"][0] == pytest.approx(0.0002 * 64 / 8)
    assert ctx.chosen["r1"][1] == "r1 is 0.0016: 0.0002 · 8·8 pixels / 8 samples"
    assert [p.name for p in model.phases()] == [p.name for p in fixed.phases()]
    for phase in ("r1", "r2"):
        found, expected = (m.loss(phase, data, context())[phase] for m in (model, fixed))
        assert float(expected.detach()) > 0
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_where_there_are_no_images_the_rule_refuses() -> None:
    model: Any = make("mlp-gan", POINTS, r1="auto")
    with pytest.raises(CallError, match=r"model\.r1: auto is a rule for images; give a number for vector"):
        model.begin_stage(context(), lambda k: batch(POINTS, 4))
    unbounded = DataSpec.of("vector", (4,), low=-math.inf, high=math.inf)
    with pytest.raises(CallError, match="auto is a rule for images"):
        make("mlp-gan", unbounded, r2="auto").begin_stage(context(), lambda k: batch(unbounded, 4))


def test_it_is_said_recorded_and_kept(tmp_path: Any) -> None:
    spec = DataSpec.of("image", (1, 8, 8), low=0.0, high=1.0, levels=17)
    x = torch.randint(0, 17, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    heard: list[str] = []
    config = TrainConfig(steps=6, batch=16, checkpoint_every=3, precision="fp32")
    model: Any = make("r3gan", spec, r1="auto", r2=0.25)
    result = fit(model, Split.of(spec, x), config, seed=0, directory=tmp_path, note=heard.append)
    gamma = 0.0002 * 64 / 16 / 4
    assert heard == ["r1 is 0.0002: 0.0002 · 8·8 pixels / 16 samples · 0.5²"]
    assert [(of["stage"], of["name"]) for of in result.chosen] == [("main", "r1")]
    assert result.chosen[0]["value"] == pytest.approx(gamma)
    assert float(model.gamma_r1) == pytest.approx(gamma)
    assert model.gamma("r2") == 0.25
    record = read_json(tmp_path / "checkpoints" / "step-0000006" / "state.json")
    assert record["chosen"] == list(result.chosen)
    again: Any = make("r3gan", spec, r1="auto", r2=0.25)
    resumed = fit(
        again, Split.of(spec, x), config, seed=0, directory=tmp_path, resume=True, note=heard.append
    )
    assert resumed.chosen == result.chosen
    assert float(again.gamma_r1) == pytest.approx(gamma)
    assert len(heard) == 1
