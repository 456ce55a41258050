"""Programs on a model and on its bundle alike, and the one function that makes their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import niwaki_runtime
from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    Real,
    Runner,
    ValueSpec,
)
from niwaki.data import Column, Split
from niwaki.data.inputs import example_inputs, make_inputs
from niwaki.deployment import export_graphs, package, parity
from niwaki.models.registry import ModelConfig
from niwaki_runtime.samplers import Diffusion, OneShot, Sampler

ENGINES = ["openvino", "onnxruntime"]
CODE = ValueSpec("vector", (3,), "C", Real(-np.inf, np.inf))
SPEC = DataSpec.of("vector", (4,), classes=5)


class Linear(GenerativeModel):
    """x = z A + e(class), z = (x − e(class)) A⁺: `encode` undoes what `sample` and `decode` do."""

    name = "linear"
    Config = ModelConfig

    def __init__(self, config: ModelConfig = ModelConfig(), spec: DataSpec = SPEC) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config, self.spec = config, spec
        self.conditions = {"class": ConditionSpec.label(5)}
        self.a, self.embed = nn.Linear(3, 4, bias=False), nn.Embedding(5, 4)
        self.eval()

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("a", "embed")),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"fit": batch.x.square().mean()}

    def graphs(self) -> dict[str, Graph]:
        label = Port("class", (1,), "int64", high=5)
        return {
            "generator": Graph("generator", Forward(self.a, self.embed), (Port("z", (1, 3)), label)),
            "encoder": Graph("encoder", Backward(self.a, self.embed), (Port("x", (1, 4)), label)),
        }

    def sampler(self) -> Sampler:
        return OneShot(latent=(3,), conditions=("class",))

    def programs(self) -> dict[str, Program]:
        x = ConditionSpec(self.spec.x)
        return {
            **super().programs(),
            "encode": Program(
                OneShot(graph="encoder", conditions=("x", "class")), {"x": x, **self.conditions}, CODE
            ),
            "decode": Program(
                OneShot(conditions=("z", "class")), {"z": ConditionSpec(CODE), **self.conditions}, self.spec.x
            ),
        }


class Forward(nn.Module):
    def __init__(self, a: nn.Module, embed: nn.Module) -> None:
        super().__init__()
        self.a, self.embed = a, embed

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.a(z) + self.embed(y)


class Backward(Forward):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a = self.a.weight  # (4, 3)
        gram = a.T @ a
        # The inverse of a 3×3 matrix by its cofactors: ONNX has none
        first, second, third = gram.unbind(1)
        cofactors = torch.stack([_cross(second, third), _cross(third, first), _cross(first, second)])
        return (x - self.embed(y)) @ a @ (cofactors / (first * cofactors[0]).sum()).T


def _cross(a: Tensor, b: Tensor) -> Tensor:
    rows = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return torch.stack(rows)


@pytest.fixture(scope="module")
def model() -> Linear:
    made = Linear()
    made.shipped = ("encode", "decode")
    return made


@pytest.fixture(scope="module")
def split() -> Split:
    """Seven samples and their classes."""
    rng = torch.Generator().manual_seed(1)
    return Split.of(SPEC, torch.randn(7, 4, generator=rng), torch.arange(7) % 5)


@pytest.fixture(scope="module")
def bundle(model: Linear, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundle")
    graphs = export_graphs(model, place / "graphs")
    return package(model, graphs, place / "linear.niwaki", examples=example_inputs(model, split))


@pytest.fixture(params=["model", *ENGINES])
def runner(request: pytest.FixtureRequest, model: Linear, bundle: Path) -> Runner:
    if request.param == "model":
        return model
    return niwaki_runtime.load(bundle, engine=request.param, precision="exact", threads=1)


def array(runner: Runner, result: Any) -> np.ndarray:
    return np.asarray(runner.backend().numpy(result))


def test_encode_undoes_decode_wherever_they_run(runner: Runner) -> None:
    z = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    x = array(runner, runner.run("decode", 6, inputs={"z": z, "class": 2}))
    back = array(runner, runner.run("encode", 6, inputs={"x": x, "class": 2}))
    np.testing.assert_allclose(back, z, atol=2e-4)


def test_sampling_is_decoding_the_noise_of_the_seed(runner: Runner) -> None:
    z = niwaki_runtime.noise.normal(3, 4, 5, (3,))
    x = array(runner, runner.run("decode", 5, inputs={"z": z}, start=4))
    np.testing.assert_allclose(x, array(runner, runner.sample(5, seed=3, start=4)), atol=1e-5)


def test_a_bundle_runs_every_program_as_its_model_does(
    model: Linear, bundle: Path, split: Split, runner: Runner
) -> None:
    assert dict(runner.programs()) == model.programs()
    for name in model.programs():
        given = make_inputs(model, name, 6, split)
        expected = array(model, model.run(name, 6, seed=2, inputs=given))
        np.testing.assert_allclose(
            array(runner, runner.run(name, 6, seed=2, inputs=given)), expected, atol=1e-4
        )
    report = parity(model, bundle, n=4, split=split)
    assert set(report["programs"]) == {"encode", "decode"}
    assert report["passed"]


def test_what_ships_by_default_needs_no_further_graph(tmp_path: Path) -> None:
    model = Linear()
    assert list(model.shipped_programs()) == ["sample", "decode"]
    graphs = export_graphs(model, tmp_path)
    assert list(graphs) == ["generator"]
    bundle = niwaki_runtime.load(package(model, graphs, tmp_path / "small.niwaki"), engine="onnxruntime")
    with pytest.raises(CallError, match="no program 'encode'"):
        bundle.run("encode", 1)


def test_programs_and_graphs_that_are_none(tmp_path: Path) -> None:
    model = Linear()
    model.shipped = ("encod",)
    with pytest.raises(CallError, match="no program 'encod'; did you mean 'encode'"):
        model.shipped_programs()
    with pytest.raises(CallError, match="no program 'log_prob'"):
        model.run("log_prob", 1)

    class Astray(Linear):
        def sampler(self) -> Sampler:
            return OneShot(latent=(3,), graph="generatr", conditions=("class",))

    with pytest.raises(
        CallError, match="calls the graph 'generatr', which is none; did you mean 'generator'"
    ):
        Astray().shipped_graphs()


# --- inputs ---


def test_inputs_are_the_rows_of_the_split_from_its_beginning_again(runner: Runner, split: Split) -> None:
    given = make_inputs(runner, "encode", 10, split, start=5)
    rows = (np.arange(10) + 5) % 7
    np.testing.assert_array_equal(given["x"], split.values().numpy()[rows])
    np.testing.assert_array_equal(given["class"], split.y.numpy()[rows])  # type: ignore[union-attr]
    assert given["x"].dtype == np.float32
    assert given["class"].dtype == np.int64


def test_what_has_a_default_is_left_out_without_a_column(runner: Runner, split: Split) -> None:
    bare = Split({"x": split.columns["x"]})
    assert list(make_inputs(runner, "encode", 3, bare)) == ["x"]
    assert make_inputs(runner, "sample", 3, bare) == {}
    assert make_inputs(runner, "sample", 3) == {}


def test_an_input_is_made_by_the_program_whose_output_it_is(runner: Runner, split: Split) -> None:
    """z comes from `encode`, whose x comes from the data, from examples, or from `sample`."""
    z = make_inputs(runner, "decode", 9, split, start=2)["z"]
    encoded = runner.run("encode", 9, inputs=make_inputs(runner, "encode", 9, split, start=2))
    np.testing.assert_allclose(z, array(runner, encoded), atol=1e-6)
    by_sampling = make_inputs(runner, "decode", 4)["z"]
    encoded = runner.run("encode", 4, inputs={"x": array(runner, runner.sample(4))})
    np.testing.assert_allclose(by_sampling, array(runner, encoded), atol=1e-5)
    rows = np.ones((2, 4), np.float32)
    given = make_inputs(runner, "decode", 3, examples={"x": rows})
    np.testing.assert_allclose(
        given["z"], array(runner, runner.run("encode", 3, inputs={"x": np.ones((3, 4))})), atol=1e-6
    )


def test_examples_stand_in_for_data(bundle: Path, split: Split) -> None:
    loaded = niwaki_runtime.load(bundle, engine="onnxruntime")
    examples = loaded.example_inputs("encode", 3)
    assert list(examples) == ["x"], "classes have a default"
    np.testing.assert_array_equal(examples["x"], split.values().numpy()[:3])
    given = make_inputs(loaded, "encode", 6, examples=loaded.example_inputs("encode", 4))
    np.testing.assert_array_equal(given["x"], split.values().numpy()[[0, 1, 2, 3, 0, 1]])
    assert niwaki_runtime.inspect(bundle).examples == "examples.npz"


def test_columns_that_do_not_fit_are_named(model: Linear, split: Split) -> None:
    wide = Split({"x": Column(ValueSpec("vector", (5,)), torch.zeros(3, 5))})
    with pytest.raises(CallError, match=r"'x' holds vector of shape \(5,\).* wants \(4,\).*data\.columns\.x"):
        make_inputs(model, "encode", 2, wide)
    outside = Split({**split.columns, "class": Column(ValueSpec.label(9), torch.full((7,), 8))})
    with pytest.raises(CallError, match="'class' has the value 8, outside 0 … 4"):
        make_inputs(model, "sample", 2, outside)
    with pytest.raises(CallError, match="no program 'translate'"):
        make_inputs(model, "translate", 2, split)


def test_an_input_that_nothing_gives_is_asked_for(split: Split) -> None:
    class Guided(Linear):
        def programs(self) -> dict[str, Program]:
            mask = {"mask": ConditionSpec(ValueSpec("mask", (2, 2)))}
            return {**super().programs(), "restore": Program(self.sampler(), mask, self.spec.x)}

    with pytest.raises(CallError, match=r"'restore' needs 'mask', .*data\.columns\.mask"):
        make_inputs(Guided(), "restore", 2, split)


def test_programs_that_need_each_other_end_in_a_sentence(split: Split) -> None:
    class Round(Linear):
        def programs(self) -> dict[str, Program]:
            a, b = ValueSpec("vector", (2,)), ValueSpec("vector", (3,))
            return {
                **super().programs(),
                "ab": Program(self.sampler(), {"a": ConditionSpec(a)}, b),
                "ba": Program(self.sampler(), {"b": ConditionSpec(b)}, a),
            }

    with pytest.raises(CallError, match="'ba' needs 'b'"):
        make_inputs(Round(), "ab", 2, split)


# --- what runs between the steps ---


class Still(Linear):
    """A diffusion of which the network says nothing: what is projected is what comes out."""

    def graphs(self) -> dict[str, Graph]:
        return {"denoiser": Graph("denoiser", Nothing(), (Port("x", (1, 4)), Port("t", (1,))))}

    def sampler(self) -> Sampler:
        return Diffusion(shape=(4,), steps=5)

    def programs(self) -> dict[str, Program]:
        return {"sample": Program(self.sampler(), {}, self.spec.x)}


class Nothing(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.0 * x + 0.0 * t[:, None]


@pytest.mark.parametrize("where", ["model", *ENGINES])
def test_a_projection_is_called_after_every_step_with_the_time(where: str, tmp_path: Path) -> None:
    model: Any = Still()
    if where != "model":
        made = package(model, export_graphs(model, tmp_path / "g"), tmp_path / "still.niwaki")
        model = niwaki_runtime.load(made, engine=where, precision="exact")
    seen: list[tuple[float, int, tuple[int, ...]]] = []

    def project(x: Any, t: float, draw: int) -> Any:
        seen.append((t, draw, tuple(x.shape)))
        return x * 0 + 0.25 if t < 0 else x

    out = array(model, model.run("sample", 3, seed=1, project=project, batch=3))
    np.testing.assert_array_equal(out, np.full((3, 4), 0.25, np.float32))
    times = [t for t, _, _ in seen]
    assert len(seen) == 5
    assert times == sorted(times, reverse=True)
    assert times[-1] == -1
    assert {shape for _, _, shape in seen} == {(3, 4)}
