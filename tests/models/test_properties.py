"""What every registered model must be. A new model is tested by being registered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import DIGITS, PATCHES, SMALL, TALL, VARIANTS, batch, context, make, step

from niwaki import models
from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki_runtime.programs import Program, graphs_of
from niwaki_runtime.samplers import sampler_from_json

CASES: list[tuple[str, DataSpec, dict[str, Any]]] = [
    *((name, spec, {}) for name in models.built_in() for spec in (DIGITS, PATCHES, TALL)),
    *((name, DIGITS, changes) for name, changes in VARIANTS),
]
REFUSES = {"realnvp": ("two or more amounts", DataSpec.of("text", (16,), levels=5))}
"""What a model that takes more than images says, and of which data."""
IDS = [f"{name}-{spec.shape}-{','.join(changes)}" for name, spec, changes in CASES]


@pytest.fixture(params=CASES, ids=IDS)
def model(request: pytest.FixtureRequest) -> GenerativeModel:
    name, spec, changes = request.param
    return make(name, spec, **changes)


def test_samples_have_the_shape_and_stay_in_range(model: GenerativeModel) -> None:
    x = model.sample(3, seed=0)
    assert tuple(x.shape) == (3, *model.spec.shape)
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    room = 1e-5 * (model.spec.high - model.spec.low)  # the last step of a solver rounds
    assert model.spec.low - room <= float(x.min())
    assert float(x.max()) <= model.spec.high + room


def test_sample_i_of_a_seed_does_not_depend_on_the_batch_or_the_start(model: GenerativeModel) -> None:
    whole = model.sample(5, seed=7)
    torch.testing.assert_close(model.sample(5, seed=7, batch=2), whole, atol=5e-6, rtol=0)
    torch.testing.assert_close(model.sample(2, seed=7, start=3), whole[3:], atol=5e-6, rtol=0)
    assert not torch.allclose(model.sample(5, seed=8), whole, atol=1e-3)


def test_sampling_leaves_the_mode_as_it_was(model: GenerativeModel) -> None:
    before = {n: b.clone() for n, b in model.named_buffers()}
    model.train()
    model.sample(2, seed=0)
    assert model.training
    for n, b in model.named_buffers():
        assert torch.equal(b, before[n]), n


def test_every_parameter_gets_a_gradient_and_only_from_its_phases(model: GenerativeModel) -> None:
    gradients = step(model, batch(model.spec))
    for phase in model.phases():
        for name, g in gradients[phase.name].items():
            assert any(name == p or name.startswith(p + ".") for p in phase.parameters), (phase.name, name)
            assert torch.isfinite(g).all(), (phase.name, name)
    for name, _ in model.named_parameters():
        total = sum(float(g[name].abs().sum()) for g in gradients.values() if name in g)
        assert total > 0.0, f"{name} is never trained"


def test_training_lowers_what_it_minimises(model: GenerativeModel) -> None:
    """A few steps on one batch at fixed randomness: each phase by itself descends."""
    data = batch(model.spec)
    for phase in model.phases():
        names = [
            n
            for n, _ in model.named_parameters()
            if any(n == p or n.startswith(p + ".") for p in phase.parameters)
        ]
        own = [p for n, p in model.named_parameters() if n in names]
        optimizer = torch.optim.Adam(own, lr=1e-3)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = sum(model.loss(phase.name, data, context()).values())
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            losses.append(float(loss.detach()))  # type: ignore[union-attr]
        assert losses[-1] < losses[0], (phase.name, losses)


def test_a_loss_is_a_function_of_its_context(model: GenerativeModel) -> None:
    data = batch(model.spec)
    model.eval()
    for phase in model.phases():
        first, again, other = (model.loss(phase.name, data, context(s)) for s in (1, 1, 2))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[k], again[k]) for k in first)
        if phase.name != "r1":  # the only loss without randomness
            assert any(not torch.equal(first[k], other[k]) for k in first)


def test_config_and_weights_round_trip_through_a_directory(model: GenerativeModel, tmp_path: Path) -> None:
    model.eval()
    models.save_model(model, tmp_path)
    again = models.load_model(tmp_path)
    assert (again.name, again.config, again.spec, again.surgery) == (model.name, model.config, model.spec, ())
    assert not again.training
    own = model.state_dict()
    assert own.keys() == again.state_dict().keys()
    assert all(torch.equal(v, own[k]) for k, v in again.state_dict().items())
    assert torch.equal(again.sample(3, seed=5), model.sample(3, seed=5))


def test_the_sampler_is_plain_data(model: GenerativeModel) -> None:
    sampler = model.sampler()
    assert sampler_from_json(sampler.to_json()) == sampler
    assert set(graphs_of(model.programs())) == set(model.graphs())
    assert set(sampler.graphs_used()) <= set(model.graphs())


def test_programs_are_plain_data(model: GenerativeModel) -> None:
    for name, program in model.programs().items():
        assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program, name


def test_graphs_take_their_own_examples_at_any_batch(model: GenerativeModel) -> None:
    model.eval()
    for graph in model.graphs().values():
        with torch.no_grad():
            five = graph(*graph.example(5))
            three = graph(*(x[:3] for x in graph.example(5)))
        torch.testing.assert_close(five[:3], three, atol=5e-6, rtol=0)


def test_a_condition_is_obeyed_by_the_graph(model: GenerativeModel) -> None:
    """Another class at equal noise gives another sample; an unconditional model refuses one."""
    if not model.conditions:
        with pytest.raises(CallError, match="takes no condition"):
            model.sample(2, seed=0, condition=1)
        return
    changed = model.sample(4, seed=0, condition=0) - model.sample(4, seed=0, condition=1)
    assert float(changed.abs().max()) > 1e-6
    with pytest.raises(CallError, match="outside"):
        model.sample(2, seed=0, condition=99)


def test_a_reload_in_a_fresh_process_is_bit_equal(tmp_path: Path) -> None:
    expected = {}
    for name in models.built_in():
        for i, changes in enumerate([{}, *(c for n, c in VARIANTS if n == name)]):
            model = make(name, **changes)
            step(model, batch(model.spec))  # running statistics are not the initial ones
            models.save_model(model.eval(), tmp_path / f"{name}{i}")
            expected[f"{name}{i}"] = model.sample(4, seed=9).numpy()
    code = (
        "import sys, numpy as np, torch; from pathlib import Path; from niwaki.models import load_model\n"
        "torch.set_num_threads(int(sys.argv[2])); root = Path(sys.argv[1])\n"
        "made = {d.name: load_model(d).sample(4, seed=9).numpy() for d in root.iterdir() if d.is_dir()}\n"
        "np.savez(root / 'made.npz', **made)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path), str(torch.get_num_threads())]
    subprocess.run(argv, check=True, env={**os.environ})
    made = np.load(tmp_path / "made.npz")
    assert set(made.files) == set(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(made[name], x, err_msg=name)


@pytest.mark.parametrize("name", models.built_in())
def test_wrong_data_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(CallError, match=REFUSES.get(name, (r"images \(C, H, W\)",))[0]):
        make(name, REFUSES[name][1] if name in REFUSES else DataSpec.of("vector", (16,)))
    with pytest.raises(CallError, match="no setting 'widht'"):
        models.build(name, {"widht": 3}, DIGITS)
    model = make(name)
    data = batch(DIGITS).replaced(**{"class": None})
    with pytest.raises(CallError, match="no labels"):
        model.loss(model.phases()[0].name, data, context())


def test_every_small_case_names_a_model() -> None:
    assert set(SMALL) <= set(models.built_in())
