"""Several tokens in one call of the network are those of one call each, whatever the model remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import make
from torch import Tensor

import niwaki_runtime
from niwaki.core.contract import DataSpec, GenerativeModel, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.nn.unrolled import pick
from niwaki_runtime.engines import available
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, Noise
from niwaki_runtime.samplers.base import sampler_from_json
from niwaki_runtime.samplers.tokens import choose
from niwaki_runtime.specs import Tokens

LENGTH, N = 19, 5
WORDS = DataSpec({"x": ValueSpec("text", (LENGTH,), "T", Tokens(7)), "class": ValueSpec.label(3)})
SOUND = DataSpec.of("audio", (LENGTH,), classes=3)
CASES: dict[str, tuple[str, DataSpec, dict[str, Any]]] = {
    "transformer": ("transformer", WORDS, {}),
    "transformer-learned": ("transformer", WORDS, {"positions": "learned", "kv_heads": 1}),
    "lstm": ("lstm", WORDS, {}),
    "gru": ("gru", WORDS, {}),
    "state-space": ("state-space", WORDS, {}),
    "wavenet": ("wavenet", SOUND, {"levels": 32, "layers": 4, "stacks": 2}),
}
each = pytest.mark.parametrize(("name", "spec", "changes"), CASES.values(), ids=CASES)


def stirred(name: str, spec: DataSpec, **changes: Any) -> GenerativeModel:
    model = make(name, spec, **changes).eval()
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=rng)
    return model


class Counted:
    """Graphs, and how often each was called."""

    def __init__(self, model: GenerativeModel) -> None:
        self.calls: dict[str, int] = {}
        self.graphs = {name: self._one(name, graph) for name, graph in model.graphs().items()}

    def _one(self, name: str, graph: Any) -> Any:
        class Runner:
            state = graph.state

            def __call__(_, *inputs: Tensor) -> Any:
                self.calls[name] = self.calls.get(name, 0) + 1
                return graph(*inputs)

        return Runner()


def tokens(model: GenerativeModel, program: str = "sample", inputs: Any = None, **changes: Any) -> Any:
    """What the token sampler of a program makes, and how often it called which graph."""
    found = model.program(program).sampler.override(**changes).parts_of(Autoregressive)[0]
    counted, backend = Counted(model), model.backend()
    asked: Mapping[str, Tensor] = {k: torch.arange(N) % 3 for k in model.conditions} | (inputs or {})
    with torch.no_grad():
        made = found(counted.graphs, Noise(backend, 3, 0, N), asked)
    return backend.numpy(made), counted.calls


@pytest.mark.parametrize("unroll", [2, 5, 8])
@each
def test_tokens_are_those_of_one_call_each(
    name: str, spec: DataSpec, changes: dict[str, Any], unroll: int
) -> None:
    model = stirred(name, spec, **changes, unroll=unroll)
    alone, calls = tokens(model, ahead="")
    assert "ahead" not in calls
    together, calls = tokens(model)
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(alone)) > 3
    begun = 1 if calls.get("prefill") else 0  # a sampler that reads prompts at once draws the first one by it
    assert calls["ahead"] == (LENGTH - begun) // unroll
    assert calls.get("decode", 0) == (LENGTH - begun) % unroll


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.1}, {"penalty": 1.3},
        {"bias": ((2, 1.5),)}, {"beams": 2},
    ],
    ids=str,
)  # fmt: skip
def test_other_choices_are_made_outside(changes: dict[str, Any]) -> None:
    model = stirred("lstm", WORDS, unroll=4)
    made, calls = tokens(model, **changes)
    assert "ahead" not in calls
    np.testing.assert_array_equal(made, tokens(model, ahead="", **changes)[0])


@pytest.mark.parametrize("temperature", [0.3, 0.9, 2.0])
@pytest.mark.parametrize("name", ["transformer", "lstm", "state-space"])
def test_prompts_and_ends_are_kept(name: str, temperature: float) -> None:
    """Prompts of different lengths; samples that end somewhere are filled up with their end."""
    model = stirred(name, WORDS, unroll=3)
    prompt = torch.full((N, LENGTH - 1), -1)
    for i, length in enumerate([0, 1, 4, 9, 18]):
        prompt[i, :length] = torch.arange(length) % 7
    settings = {"inputs": {"prompt": prompt}, "temperature": temperature, "stop": 4, "stops": (6,)}
    together, calls = tokens(model, "continue", **settings)
    np.testing.assert_array_equal(together, tokens(model, "continue", ahead="", **settings)[0])
    longer, calls = tokens(model, "continue", inputs={"prompt": prompt[:, :4].clone()})
    assert calls["ahead"] > 2
    assert (longer[3, :4] == prompt[3, :4].numpy()).all()


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("levels", [2, 7, 256, 5000])
def test_the_draw_is_that_of_the_loop(levels: int, temperature: float) -> None:
    rng = np.random.default_rng(levels)
    logits = (rng.standard_normal((200, levels)) * 4).astype(np.float32)
    chance = (rng.integers(0, 1 << 32, (200, 1)) + 0.5) * 2.0**-32
    chance[0], chance[1] = 2.0**-33, 1 - 2.0**-33
    heat = torch.tensor([temperature], dtype=torch.float64)
    made = pick(torch.from_numpy(logits), torch.from_numpy(chance), heat)
    np.testing.assert_array_equal(made.numpy(), choose(logits, chance, temperature=temperature))


def test_settings_survive_and_old_records_lack_them() -> None:
    sampler = Autoregressive(8, ahead="ahead", unroll=4)
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler
    assert not {"ahead", "unroll"} & set(Autoregressive(8).to_json())
    with pytest.raises(CallError, match="unroll"):
        Autoregressive(8, unroll=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "wavenet"])
def test_bundles_draw_what_the_model_draws(name: str, tmp_path: Path) -> None:
    """In float32, on every engine."""
    _, spec, changes = CASES[name]
    model = stirred(name, spec, **changes, unroll=3)
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "a.niwaki")
    for engine in available():
        exact = niwaki_runtime.load(tmp_path / "a.niwaki", engine=engine, precision="exact", threads=1)
        assert exact.program("sample").sampler.parts_of(Autoregressive)[0].unroll == 3
        for n in (1, 4):
            made = exact.sample(n, seed=2)
            np.testing.assert_allclose(made, model.sample(n, seed=2).numpy(), atol=1e-6)
            np.testing.assert_allclose(made, exact.sample(n, seed=2, ahead=""), atol=1e-6)
