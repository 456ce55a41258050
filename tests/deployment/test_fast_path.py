"""What leaves an engine's fast path is found by trial: the engine is asked, not a list."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression import CompressConfig, PruneConfig, QuantizeConfig, compress
from niwaki.compression.forewarned import forewarned, forewarned_once
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Graph, NiwakiError, Port
from niwaki.core.store import read_json
from niwaki.deployment.fast_path import OffPath, layer_macs, off_fast_path
from niwaki.surgery.quantized import LayerBits
from niwaki_runtime.samplers import OneShot, Sampler

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="what openvino does on x86")
STATIC = QuantizeConfig(backend="niwaki")


class Chain(GenerativeModel):
    """Any module that makes images from latents `(n, *latent)`."""

    name = "chain"

    def __init__(self, net: nn.Module, latent: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.net, self.latent, self.spec, self.conditions = net, latent, DataSpec.of("image", shape), {}

    def phases(self) -> tuple:
        return ()

    def loss(self, phase, batch, ctx) -> dict:  # type: ignore[no-untyped-def]
        return {}

    def graphs(self) -> dict[str, Graph]:
        return {"generator": Graph("generator", self.net, (Port("z", (1, *self.latent)),))}

    def sampler(self) -> Sampler:
        return OneShot(latent=self.latent)


def convolutions() -> Chain:
    """All on the fast path: BatchNorm is folded, ReLU fused."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1),
    )  # fmt: skip
    return Chain(net, (4, 8, 8), (1, 8, 8)).eval()


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.cells(z)[0]).unsqueeze(1)


@x86
def test_a_model_wholly_on_the_fast_path_gives_no_warning() -> None:
    assert forewarned(convolutions(), (PruneConfig(), STATIC)) == ()


@x86
def test_transposed_convolutions_leave_it_where_their_input_has_a_zero_point() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 32, 3, padding=1), nn.LeakyReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(16, 1, 3, padding=1),
    )  # fmt: skip
    model = Chain(net, (4, 4, 4), (1, 8, 8)).eval()
    assert forewarned(model, (STATIC,)) == ()  # the step gives it a grid around zero
    asked = {f"net.{i}": LayerBits(8, input="unsigned") for i in (0, 2, 4)}
    (found,) = off_fast_path(model, asked)
    assert (found.graph, found.operator, found.module) == ("generator", "ConvTranspose", "net.2")
    assert found.shape == (32, 16, 4, 4)
    assert "zero point" in found.reason
    macs = {"net.0": 4 * 32 * 9 * 16, "net.2": 32 * 16 * 16 * 16, "net.4": 16 * 9 * 64}
    assert layer_macs(model) == macs
    assert found.share == pytest.approx(macs["net.2"] / sum(macs.values()))
    assert OffPath.from_json(found.to_json()) == found


@pytest.mark.slow
@x86
def test_attention_and_group_norms_of_a_unet_are_named() -> None:
    found = forewarned(small_models.ddpm().eval(), (STATIC,))
    kinds = {w.operator for w in found}
    assert "MatMul" in kinds  # queries with keys, weights with values
    assert "norm over the sample" in kinds
    assert all(w.share is None for w in found if w.operator == "MatMul")


def test_what_stays_inside_an_lstm_is_named() -> None:
    torch.manual_seed(0)
    found = forewarned(Chain(Lstm(), (4, 8), (1, 4, 4)).eval(), (STATIC,))
    assert [w.module for w in found if w.operator == "LSTM"] == ["net.cells"]


def test_onnxruntime_has_no_integers_for_transposed_convolutions() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(4, 8, 2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 2))
    found = forewarned(Chain(net, (4, 2, 2), (1, 4, 4)).eval(), (STATIC,), engine="onnxruntime")
    assert [w.module for w in found if w.operator == "ConvTranspose"] == ["net.0", "net.2"]


def test_storage_that_makes_nothing_faster_is_said_to_be_storage() -> None:
    weights = QuantizeConfig(mode="weights", bits=4)
    found = forewarned(convolutions(), (PruneConfig(what="weights", pattern="2:4"), weights))
    assert found[0].operator == "prune"
    assert "2:4" in found[0].reason
    assert [w.module for w in found[1:]] == ["net.0", "net.3", "net.5"]
    assert sum(w.share or 0 for w in found[1:]) == pytest.approx(1.0)


def test_nothing_is_tried_where_no_step_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("niwaki.compression.forewarned.off_fast_path", never)
    assert forewarned(convolutions(), (PruneConfig(),)) == ()


def test_a_trial_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    one = OffPath("g", "Conv", "net.0", "why", (1, 2), 0.5)

    def trial(*_: object, **__: object) -> list[OffPath]:
        calls.append(1)
        return [one]

    monkeypatch.setattr("niwaki.compression.forewarned.off_fast_path", trial)
    for key in ("a", "a", "b"):
        assert forewarned_once(convolutions(), (STATIC,), "openvino", tmp_path / "w.json", key) == (one,)
    assert len(calls) == 2


def test_a_trial_that_fails_is_itself_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[OffPath]:
        raise NiwakiError("no form of it")

    monkeypatch.setattr("niwaki.compression.forewarned.off_fast_path", broken)
    (found,) = forewarned(convolutions(), (STATIC,))
    assert "no form of it" in str(found)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(CallError, match="openvino"):
        off_fast_path(convolutions(), {}, engine="openvin")


def test_the_model_stays_as_it_is() -> None:
    model = convolutions()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    forewarned(model, (STATIC,))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_plan_says_it_before_the_first_step_and_keeps_it(tmp_path: Path) -> None:
    said: list[object] = []
    config = CompressConfig(steps=(PruneConfig(what="weights", ratio=0.5),), measure=False)
    made = compress(
        small_models.gan("plain").eval(), None, config, workdir=tmp_path, seed=0,
        warn=said.append, on_step=lambda *_: said.append("at work"),
    )  # fmt: skip
    assert [w.operator for w in made.warnings] == ["prune"]
    assert said[0] == made.warnings
    assert said[1] == "at work"
    assert read_json(tmp_path / "compression.json")["warnings"] == [made.warnings[0].to_json()]


def test_many_plans_of_one_model_are_spared_the_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **named: object) -> None:
        raise AssertionError("an export that nobody asked for")

    monkeypatch.setattr("niwaki.compression.plan.forewarned_once", never)
    config = CompressConfig(steps=(QuantizeConfig(calibration=16),), measure=False)
    model = small_models.gan().eval()
    made = compress(model, None, config, workdir=tmp_path, seed=0, bundle=False, forewarn=False)
    assert made.warnings == ()
