"""What gradients show in a training: norms by their closed forms, layers that fail by their names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from training_toys import Adversaries, Regression

from niwaki.core.contract import Batch, Context, DataSpec, Phase, Trainable
from niwaki.core.store import read_jsonl
from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki.training.failures import FAILURES, GRADIENTS, failures_of, kind_of, lasting, may_end
from niwaki.training.gradients import Gauge, steps_between
from niwaki.training.health import DEAD, FAST, FEW, HUGE, TINY, Health, Layer, layer_of
from niwaki.training.stages import build_stage
from niwaki.training.state import identity

SPEC = DataSpec.of("vector", (4,), low=-float("inf"), high=float("inf"))
DATA = Split.of(SPEC, torch.randn(64, 4, generator=torch.Generator().manual_seed(0)), None)


def config(steps: int = 60, **settings) -> TrainConfig:
    watch = {"gradients": 4, "after": 0.1, **settings.pop("watch", {})}
    given = {"steps": steps, "batch": 8, "optimizer": "sgd", "betas": (0.0, 0.999), "lr": 1e-3, "ema": 0.0}
    given |= {"precision": "fp32", "schedule": "constant", "log_every": 10, "watch": watch, **settings}
    return TrainConfig.model_validate(given)


class Chain(Trainable):
    """Three matrices in a row, and one beside them; the loss is linear, so that gradients are known.

    at: (layer, step) → factor of that layer's gradient
    """

    def __init__(self, at) -> None:
        super().__init__()
        self.at = at
        self.first, self.second, self.beside = (nn.Linear(4, 4, bias=False) for _ in range(3))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("first", "second", "beside")),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The gradient of a layer's weight is its factor ÷ 4 in every entry: of norm `factor`."""
        sums = {n: getattr(self, n).weight.sum() / 4 for n in ("first", "second", "beside")}
        return {"sum": torch.stack([self.at(n, ctx.step) * s for n, s in sums.items()]).sum()}


def chain(at) -> Chain:
    torch.manual_seed(0)
    return Chain(at)


def test_norms_are_those_of_the_gradients_the_weights_and_the_update():
    model = chain(lambda name, step: {"first": 3.0, "second": 0.5, "beside": 0.0}[name])
    stage = build_stage(model, config(lr=0.01), 0, 0)
    gauge, before = Gauge(stage), copy.deepcopy(model)
    (active,) = stage.phases
    for step in (0, 3, 4):  # the first is too early, the second is not due
        active.optimizer.param_groups[0]["lr"] = 0.01
        model.loss("fit", None, Context(step, 0.0, "main", {}, None))["sum"].backward()
        with gauge.around(active, step):
            nn.utils.clip_grad_norm_(active.parameters.values(), 1e-3)  # the norms are those before
            for parameter in active.parameters.values():
                parameter.grad.mul_(1000)
            active.optimizer.step()
        active.optimizer.zero_grad()
        if step < 4:
            before = copy.deepcopy(model)
    (found,) = gauge.read()
    assert (found.step, found.phase, found.counts) == (4, "fit", (16, 16, 16))
    gradients, weights, updates = found.values
    assert gradients == pytest.approx((3.0, 0.5, 0.0))
    assert weights == pytest.approx([p.norm().item() for p in before.parameters()])
    assert updates == pytest.approx([0.01 * g / (9.25**0.5) for g in gradients], rel=1e-4)
    assert gauge.read() == []


@pytest.mark.parametrize(
    ("at", "failure", "text"),
    [
        (lambda n, s: 1.0, None, ""),
        (lambda n, s: float(n != "beside"), "dead", "no gradient reaches 'beside'"),
        (lambda n, s: 1e-8 if n == "first" else 1.0, "vanishing", "the gradient of 'first' has all but"),
        (lambda n, s: 1e3 if n == "second" and s > 30 else 1e-2, "exploding", "of 'second' explodes"),
        (lambda n, s: (-1) ** s * 1e3 if n == "second" else 1e-3, "fast", "every step changes 'second'"),
    ],
)
def test_a_layer_that_fails_is_named_and_no_other(at, failure, text):
    said: list[str] = []
    result = fit(chain(at), DATA, config(), seed=0, note=said.append)
    found = {of["failure"]: of for of in result.told}
    if failure is None:
        assert (found, said) == ({}, [])
        return
    assert text in found[failure]["text"]
    assert any(text in line for line in said)
    assert found[failure]["lasting"]
    assert not may_end(found[failure])
    assert set(found) <= {failure, "fast"}  # weights that explode move fast, too
    assert all(
        name not in found[failure]["text"] for name in {"first", "second", "beside"} - {text.split("'")[1]}
    )


def test_what_is_over_is_told_as_over():
    result = fit(chain(lambda n, s: float(n != "beside" or s > 40)), DATA, config(), seed=0)
    (told,) = result.told
    assert told["failure"] == "dead"
    assert not told["lasting"]
    assert [kind_of(look) for look in result.looks] == [GRADIENTS] * len(result.looks)
    assert failures_of(result.looks[0])
    assert not failures_of(result.looks[-1])


def test_running_figures_by_their_closed_forms():
    layer = Layer()
    for _ in range(10):
        layer.add(4.0, 1.0, 1e-3)
    assert (layer.gradient, layer.update, layer.last) == (
        pytest.approx(4.0),
        pytest.approx(1e-3),
        (4.0, 1e-3),
    )
    layer.add(1.0, 1.0, 1e-3)
    rate = 1 / 11
    assert layer.gradient == pytest.approx(4.0 ** (1 - rate) * 1.0**rate)
    before = layer.gradient
    for k in range(FEW):
        layer.add(2 * HUGE * layer.gradient, TINY / 2, 2 * FAST)
        assert (layer.huge, layer.tiny, layer.fast) == (k + 1,) * 3
    assert layer.gradient < before * HUGE ** (FEW * rate)  # it counts as if it were HUGE times as large
    layer.add(float("inf"), 1.0, float("inf"))
    assert layer.huge == FEW + 1
    assert layer.last[0] < float("inf")
    for _ in range(DEAD):
        layer.add(0.0, 0.0, 0.0)
    assert (layer.zero, layer.tiny, layer.huge, layer.fast) == (DEAD, 0, 0, 0)


def test_a_layer_is_a_module_with_weights_of_its_own():
    assert layer_of("net.0.weight") == layer_of("net.0.bias") == "net.0"
    assert layer_of("net.0.parametrizations.weight.original0") == "net.0"
    assert layer_of("scale") == "scale"


def test_measured_are_steps_in_which_every_phase_is_due():
    stage = build_stage(Adversaries(every=3), config(), 0, 0)
    assert steps_between(stage) == 6
    usual = build_stage(Regression(), config(watch={"gradients": 0}), 0, 0)
    assert steps_between(usual) == 0  # a short stage is not measured unasked
    longer = build_stage(Regression(), config(3000, watch={"gradients": 0}), 0, 0)
    assert steps_between(longer) == 30


def test_it_leaves_no_trace_in_the_weights_and_goes_through_a_checkpoint(tmp_path):
    def trained(place, watch=True, **how):
        torch.manual_seed(0)
        model = Adversaries()
        made = config(60, optimizer="adam", lr=1e-2, checkpoint_every=7)
        made = made if watch else made.model_copy(update={"watch": None})
        result = fit(model, DATA, made, seed=0, directory=place, **how)
        return model.state_dict(), result

    whole, result = trained(tmp_path / "whole")
    unwatched, _ = trained(tmp_path / "unwatched", watch=False)
    assert all(torch.equal(whole[n], unwatched[n]) for n in whole)
    assert result.health
    assert {row["layer"] for row in result.health} >= {"critic.0", "generator.3"}

    class Stopped(Exception):
        pass

    def stop(done, total, last):
        if done >= 33:
            raise Stopped

    with pytest.raises(Stopped):
        trained(tmp_path / "broken", progress=stop)
    resumed, again = trained(tmp_path / "broken", resume=True)
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert (again.health, again.looks, again.told) == (result.health, result.looks, result.told)
    lines = [
        [line for line in read_jsonl(tmp_path / name / "metrics.jsonl") if "updates/median" in line]
        for name in ("whole", "broken")
    ]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [7, 13, 19, 25, 31, 37, 43, 49, 55]


def test_older_fingerprints_stay_and_every_failure_says_where_it_is_seen():
    usual = TrainConfig.model_validate({"watch": {"stop": True}})
    assert "gradients" not in identity(usual)["watch"]
    assert {of.seen_in for of in FAILURES.values()} == {"samples", "tuning", "gradients"}
    tuned = {"stage": "main", "diversity": [-0.5, -0.6, -0.4], "margin": 0.1}  # as older records hold it
    others = {"stage": "main", "kind": GRADIENTS, "dead": ["a", "b", "c"]}
    assert failures_of(others) == {
        "dead": "no gradient reaches 'a' and 2 more: the loss does not depend on it, or its units are dead"
    }
    assert failures_of({**others, "of": 3}) == {
        "dead": "no gradient reaches any of the 3 layers: nothing is learnt any more"
    }
    assert lasting([tuned, others], {"stage": "main", "failure": "less_diverse"})
    assert not lasting([others, tuned], {"stage": "main", "failure": "alike"})
    assert Health.from_table(Health({"main": {"a": Layer(2, 1.0, 0.5, (1.0, 0.5), 1)}}).table()).stages[
        "main"
    ]["a"] == Layer(2, 1.0, 0.5, (1.0, 0.5), 1)
