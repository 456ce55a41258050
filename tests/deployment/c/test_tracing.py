"""A sampler is written down by being called: what is noted are its own steps."""

from __future__ import annotations

import pytest

from niwaki.core.contract import ConditionSpec, NiwakiError
from niwaki.deployment.c.tracing import trace
from niwaki.deployment.static_graph.network import Array, Network
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Cascade, Diffusion, MeanFlow, OneShot, Sampler


def network(name: str, inputs: dict[str, Array], out: Array) -> Network:
    return Network(name, tuple(inputs), ("out",), {**inputs, "out": out}, {}, {}, [])


VELOCITY = network(
    "average_velocity", {"x": Array((1, 8)), "t": Array((1,)), "r": Array((1,))}, Array((1, 8))
)
DENOISER = network(
    "denoiser", {"x": Array((1, 8)), "t": Array((1,)), "class": Array((1,), "int32")}, Array((1, 8))
)
DECODER = network("decoder", {"z": Array((1, 8))}, Array((1, 1, 4, 4)))


def traced(sampler: Sampler, *networks: Network, classes: int = 0, stateful: frozenset[str] = frozenset()):
    inputs = {"class": ConditionSpec.label(classes, null=classes)} if classes else {}
    known = {n.name: n for n in networks}
    return trace(Program(sampler, inputs), known, dict.fromkeys(known, 24), set(stateful))


def test_mean_flow_tells_the_network_two_times() -> None:
    found = traced(MeanFlow(shape=(8,), steps=2), VELOCITY)
    assert [s.op for s in found.steps] == ["Normal", "Call", "Mul", "Sub", "Call", "Mul", "Sub", "Clip"]
    calls = [s for s in found.steps if s.op == "Call"]
    times = [[float(found.constants[i][0]) for i in call.inputs[1:]] for call in calls]
    assert times == [[1.0, 0.5], [0.5, 0.0]]
    assert found.arrays[calls[0].outputs[-1]].bytes == 24  # where the network works


@pytest.mark.parametrize("batched", [True, False])
def test_guidance_asks_twice_once_with_the_null_class(batched: bool) -> None:
    sampler = Diffusion(
        shape=(8,), steps=3, conditions=("class",), null={"class": 10}, guidance=2.0, guidance_batched=batched
    )
    found = traced(sampler, DENOISER, classes=10)
    calls = [s for s in found.steps if s.op == "Call"]
    assert len(calls) == 6
    asked = [found.constants.get(c.inputs[2]) for c in calls]
    assert [a is None for a in asked] == [True, False] * 3  # the class of the caller, then
    assert [a.tolist() for a in asked if a is not None] == [[10]] * 3


def test_an_ancestral_solver_draws_at_every_step_but_the_last() -> None:
    found = traced(Diffusion(shape=(8,), steps=4, solver="ddpm", conditions=("class",)), DENOISER, classes=10)
    draws = [(s.attributes["stream"], s.attributes["draw"]) for s in found.steps if s.op == "Normal"]
    assert draws == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_cascade_draws_apart() -> None:
    legs = (MeanFlow(shape=(8,)), OneShot(latent=None, graph="decoder", conditions=("z",)))
    found = traced(Cascade(legs, ("z",)), VELOCITY, DECODER)
    assert [s.attributes["network"] for s in found.steps if s.op == "Call"] == ["average_velocity", "decoder"]
    assert found.arrays[found.outputs[0]].shape == (1, 1, 4, 4)


def test_what_decides_by_values_and_what_has_state_is_refused() -> None:
    with pytest.raises(NiwakiError, match="the sampler 'diffusion' calls 'sort', which has no form in C"):
        traced(Diffusion(shape=(8,), threshold=0.9, conditions=("class",)), DENOISER, classes=10)
    with pytest.raises(NiwakiError, match="calls 'decoder' with state from call to call"):
        traced(OneShot(latent=(8,), graph="decoder"), DECODER, stateful=frozenset({"decoder"}))
