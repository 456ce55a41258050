"""Samples in JavaScript: those of `niwaki_runtime` with onnxruntime, through onnxruntime-web."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from runtime.browser.node import BROWSER, library, needs_library, refusal, run
from runtime.small_graphs import PARTS, graph, manifest, weight
from serving.bundles import texts

import niwaki_runtime
from niwaki.deployment import pack_bundle
from niwaki_runtime.archive import pack
from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest, write_manifest
from niwaki_runtime.process import Karras, LinearPath, VariancePreserving
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Autoregressive, Cascade, MeanFlow, OneShot, State, StyleBased
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec
from niwaki_runtime.tokenizer import tokenizer_of

pytestmark = needs_library

LOAD = """
const { load } = await from("index.js");
const bundle = await load(new Uint8Array(readFileSync(given[0])), { library: given[1] });
"""
RUN = """
const made = [];
for (const [program, n, options] of given[2]) {
  const { data, shape } = await bundle.run(program, n, options);
  made.push([Array.from(data, Number), shape]);
}
answer(made);
"""


def at() -> str:
    folder = library()
    assert folder is not None
    return (folder / "dist" / "ort.wasm.bundle.min.mjs").as_uri()


def in_javascript(path: Path, *calls: tuple[str, int, dict[str, Any]]) -> list[np.ndarray]:
    return [np.array(data).reshape(shape) for data, shape in run(LOAD + RUN, str(path), at(), calls)]


def in_python(path: Path, *calls: tuple[str, int, dict[str, Any]]) -> list[np.ndarray]:
    loaded = niwaki_runtime.load(path, engine="onnxruntime", precision="exact")
    return [loaded.run(program, n, **options) for program, n, options in calls]


def compare(path: Path, *calls: tuple[str, int, dict[str, Any]], within: float = 5e-6) -> None:
    for made, wanted in zip(in_javascript(path, *calls), in_python(path, *calls), strict=True):
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made, wanted, rtol=within, atol=within)


@pytest.fixture
def of_kind(bundle: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """One of the small graphs as a bundle in one file, with another sampler where one is given."""

    def make(kind: str, sampler: Any = None) -> Path:
        folder = bundle(kind)
        if sampler is not None:
            known = manifest(kind)
            program = replace(known.programs["sample"], sampler=sampler)
            write_manifest(folder, replace(known, programs={"sample": program}))
        return pack(folder, tmp_path / f"{kind}-packed.niwaki")

    return make


def saved(folder: Path, manifest: Manifest, graphs: dict[str, onnx.ModelProto]) -> Path:
    folder.mkdir()
    for name, model in graphs.items():
        onnx.save(model, folder / name)
    write_manifest(folder, manifest)
    return pack(folder, folder.with_suffix(".niwaki"))


def test_one_shot_with_seeds_numbers_and_classes(of_kind: Callable[..., Path]) -> None:
    compare(
        of_kind("one_shot"),
        ("sample", 5, {}),
        ("sample", 130, {"seed": -7, "batch": 50}),
        ("sample", 3, {"seed": 12, "start": 10**12, "inputs": {"label": [0, 2, 1]}}),
        ("sample", 2, {"inputs": 1, "temperature": 0.5}),
        ("sample", 0, {}),
    )


SOLVERS = ["ddim", "ddpm", "ddpm_large", "euler", "heun", "heun_ratio", "dpmpp_2m", "unipc", "consistency"]


def test_every_solver_of_the_variance_preserving_path(of_kind: Callable[..., Path]) -> None:
    calls = [("sample", 3, {"solver": solver, "seed": zlib.crc32(solver.encode())}) for solver in SOLVERS]
    compare(of_kind("diffusion"), *calls)


OPTIONS: list[dict[str, Any]] = [
    {"guidance": 2.0},
    {"guidance": 2.0, "guidance_batched": False},
    {"guidance": 1.5, "guidance_interval": [100.0, 700.0]},
    {"eta": 0.5, "steps": 7},
    {"solver": "euler", "churn": 4.0, "churn_noise": 1.01},
    {"solver": "heun", "churn": 4.0, "churn_interval": [100.0, 900.0]},
    {"threshold": 0.9, "clip": 0.3},
    {"clip": 0.0, "start_scale": 0.9},
    {"schedule": "linear", "spacing": "leading", "offset": 1},
    {"schedule": "scaled_linear(0.0009, 0.01)", "spacing": "linspace", "last": "zero", "steps": 6},
    {"schedule": "sigmoid", "spacing": "linspace_exact", "steps": 7, "consistent": False},
    {"spacing": "linspace_open", "last": "zero_scaled", "steps": 3},
    {"spacing": "leading_open", "steps": 3, "prediction": "x0"},
    {"steps": 1},
]


def test_options_of_diffusion(of_kind: Callable[..., Path]) -> None:
    compare(of_kind("diffusion"), *[("sample", 3, options) for options in OPTIONS])


@pytest.mark.parametrize(
    ("process", "prediction", "solver"),
    [
        (Karras(), "edm", "heun"),
        (Karras(spacing="trailing"), "epsilon", "dpmpp_2m"),
        (Karras(sigma_max=10.0), "x0", "euler"),
        (LinearPath(), "velocity", "euler"),
        (LinearPath(shift=3.0), "velocity", "heun"),
        (LinearPath(spacing="linspace", least=0.01), "x0", "unipc"),
        (VariancePreserving(ratios="karras", clock="nearest"), "epsilon", "euler"),
        (VariancePreserving(ratios="exponential", least_ratio=0.05, greatest_ratio=20.0), "v", "heun"),
        (VariancePreserving(zero_terminal_snr=True), "v", "ddim"),
        (VariancePreserving(train_steps=4, betas=(0.1, 0.2, 0.3, 0.4)), "velocity", "ddpm"),
    ],
)
def test_every_process(of_kind: Callable[..., Path], process: Any, prediction: str, solver: str) -> None:
    sampler = replace(
        PARTS["diffusion"][2].sampler, process=process, prediction=prediction, solver=solver, steps=4
    )
    compare(of_kind("diffusion", sampler), ("sample", 3, {"seed": 2}), within=2e-5)


TEXTS: list[tuple[str, int, dict[str, Any]]] = [
    ("sample", 4, {}),
    ("sample", 3, {"seed": 5, "temperature": 0.7, "top_k": 5}),
    ("sample", 3, {"top_p": 0.5}),
    ("sample", 3, {"min_p": 0.2, "start": 9}),
    ("sample", 2, {"temperature": 0.0, "penalty": 1.3}),
    ("sample", 2, {"bias": [[97, 3.0]], "keep": 10}),
    ("continue", 3, {"inputs": {"prompt": [[104, 105, *[-1] * 45], [-1] * 47, [65, *[-1] * 46]]}}),
    ("continue", 2, {"inputs": {"prompt": [[104, 105, *[-1] * 45], [-1] * 47]}, "alone": True}),
]


def test_token_after_token_and_the_text_of_them(tmp_path: Path) -> None:
    path = pack(texts(tmp_path / "t"), tmp_path / "t.niwaki")
    wanted = in_python(path, *TEXTS)
    for made, known in zip(in_javascript(path, *TEXTS), wanted, strict=True):
        np.testing.assert_array_equal(made, known)
    code = """
    const { textDecoder } = await from("index.js");
    answer(given[2].map(textDecoder(bundle.text("tokenizer.json"))));
    """
    rows = [*wanted[0].tolist(), [104, 195, 169, 240, 10, 258, 259]]
    tokenizer = tokenizer_of(niwaki_runtime.load(path))
    assert run(LOAD + code, str(path), at(), rows) == [tokenizer.decode(row) for row in rows]


def test_state_is_carried_whole_and_in_new_rows(of_kind: Callable[..., Path], tmp_path: Path) -> None:
    calls = [("sample", 5, {"seed": 1}), ("sample", 2, {"temperature": 1.5})]
    for path in (of_kind("autoregressive"), prefilled(tmp_path / "p")):
        for made, known in zip(in_javascript(path, *calls), in_python(path, *calls), strict=True):
            np.testing.assert_array_equal(made, known)
    calls = [("continue", 3, {"seed": 4, "inputs": [[1, 2, 3, 4, 0], [2, 2, 2, -1, -1], [4, 3, 2, 1, -1]]})]
    path = tmp_path / "p.niwaki"
    for options in ({}, {"guidance": 1.5}):
        calls[0][2].update(options)
        np.testing.assert_array_equal(in_javascript(path, *calls)[0], in_python(path, *calls)[0])


def prefilled(folder: Path) -> Path:
    """A language model that remembers the embedding of each token, in rows of its state, and reads three
    tokens at once; a prompt is a question."""
    size, width, length = 5, 4, 8
    state = (State("memory", "rows", (1, length, width)),)

    def model(stride: int) -> onnx.ModelProto:
        single = stride == 1
        nodes = [
            helper.make_node("Gather", ["table", "tokens"], ["e"]),
            helper.make_node("Unsqueeze", ["e", "one"], ["rows"])
            if single
            else helper.make_node("Identity", ["e"], ["rows"]),
            helper.make_node("ReduceMean", ["memory", "one"], ["known"], keepdims=0 if single else 1),
            helper.make_node("Add", ["e", "known"], ["h"]),
            helper.make_node("Cast", ["position"], ["p"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["h", "p"], ["g"]),
            helper.make_node("MatMul", ["g", "w"], ["logits"]),
        ]
        free: list[str | int] = [] if single else [stride]
        return graph(
            nodes,
            {
                "tokens": (TensorProto.INT64, ["n", *free]),
                "position": (TensorProto.INT64, [1]),
                "memory": (TensorProto.FLOAT, ["n", length, width]),
            },
            {"logits": ["n", *free, size], "rows": ["n", stride, width]},
            {
                "table": weight("t", size, width),
                "w": weight("w", width, size),
                "one": np.array([1], np.int64),
            },
        )

    def entry(file: str, shape: tuple[int, ...]) -> GraphEntry:
        inputs = (InputEntry("tokens", shape, "int64"), InputEntry("position", (1,), "int64", None))
        return GraphEntry(file, "prior", inputs, ("logits",), state)

    text = ValueSpec("text", (length,), "T", Tokens(size))
    prompt = ConditionSpec(ValueSpec("text", (5,), "T", Tokens(size)), -1)
    common: dict[str, Any] = {"length": length, "graph": "step", "prefill": "many", "stride": 3}
    programs = {
        "sample": Program(Autoregressive(**common), {}, text),
        "continue": Program(
            Autoregressive(**common, prompt="prompt", null={"prompt": 0}), {"prompt": prompt}, text
        ),
    }
    graphs = {"step": entry("s.onnx", (1,)), "many": entry("m.onnx", (1, 3))}
    return saved(folder, Manifest("memory", "0", programs, graphs), {"s.onnx": model(1), "m.onnx": model(3)})


def vectors(nodes: list[Any], inputs: dict[str, int], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A graph of float vectors of these lengths, whose output has four values."""
    return graph(
        nodes,
        {k: (TensorProto.FLOAT, ["n", size]) for k, size in inputs.items()},
        {"output": ["n", 4]},
        weights,
    )


def test_style_based_generators(tmp_path: Path) -> None:
    model = vectors(
        [
            helper.make_node("MatMul", ["z", "w"], ["style"]),
            helper.make_node("Mul", ["style", "psi"], ["shorter"]),
            helper.make_node("Add", ["shorter", "noise"], ["output"]),
        ],
        {"z": 3, "noise": 4, "psi": 1},
        {"w": weight("w", 3, 4)},
    )
    sampler = StyleBased(latent=3, noise=4, truncation=0.7)
    entry = GraphEntry(
        "g.onnx", "generator", tuple(InputEntry(k, (1, n)) for k, n in (("z", 3), ("noise", 4), ("psi", 1)))
    )
    made = Manifest(
        "styles", "0", {"sample": Program(sampler, {}, ValueSpec("vector", (4,)))}, {"generator": entry}
    )
    compare(
        saved(tmp_path / "s", made, {"g.onnx": model}), ("sample", 5, {}), ("sample", 2, {"truncation": 0.0})
    )


def test_average_velocities(tmp_path: Path) -> None:
    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Sub", ["t", "r"], ["d"]),
            helper.make_node("Unsqueeze", ["d", "axis"], ["e"]),
            helper.make_node("Add", ["h", "e"], ["output"]),
        ],
        {"x": (TensorProto.FLOAT, ["n", 4]), **{k: (TensorProto.FLOAT, ["n"]) for k in "tr"}},
        {"output": ["n", 4]},
        {"w": weight("w", 4, 4), "axis": np.array([1], np.int64)},
    )
    entry = GraphEntry(
        "u.onnx", "denoiser", (InputEntry("x", (1, 4)), InputEntry("t", (1,)), InputEntry("r", (1,)))
    )
    program = Program(MeanFlow(shape=(4,), steps=3), {}, ValueSpec("vector", (4,)))
    path = saved(
        tmp_path / "m",
        Manifest("flow", "0", {"sample": program}, {"average_velocity": entry}),
        {"u.onnx": model},
    )
    compare(path, ("sample", 5, {}), ("sample", 4, {"steps": 1, "clip": 0.0}))


def test_cascades_keep_their_draws_apart_and_packed_weights_are_unpacked(tmp_path: Path) -> None:
    """A prior, a decoder with noise of its own, whose weights are packed, and a third leg that sees both."""
    wide = np.round(weight("wide", 64, 4096) * 1.2).astype(np.float32)
    models = {
        "prior.onnx": vectors(
            [helper.make_node("MatMul", ["z", "w"], ["output"])], {"z": 64}, {"w": weight("p", 64, 4)}
        ),
        "up.onnx": vectors(
            [
                helper.make_node("MatMul", ["z", "wide"], ["h"]),
                helper.make_node("Tanh", ["h"], ["a"]),
                helper.make_node("MatMul", ["a", "w"], ["b"]),
                helper.make_node("Add", ["b", "low"], ["output"]),
            ],
            {"z": 64, "low": 4},
            {"wide": wide, "w": weight("u", 4096, 4) / 64},
        ),
    }
    entries = {
        "prior": GraphEntry("prior.onnx", "prior", (InputEntry("z", (1, 64)),)),
        "up": GraphEntry("up.onnx", "decoder", (InputEntry("z", (1, 64)), InputEntry("low", (1, 4)))),
    }
    legs = (
        OneShot(latent=(64,), graph="prior"),
        Cascade((OneShot((64,), "up", ("low",)), OneShot((64,), "up", ("middle",))), ("middle",)),
    )
    sampler = Cascade(legs, ("low",))
    made = Manifest("two", "0", {"sample": Program(sampler, {}, ValueSpec("vector", (4,)))}, entries)
    path = saved(tmp_path / "c", made, models)
    packed = pack_bundle(path, tmp_path / "packed.niwaki")
    for one in (path, packed):
        compare(one, ("sample", 5, {"seed": 3}), ("sample", 2, {"temperature": 0.5}))


def test_programs_with_inputs(tmp_path: Path) -> None:
    model = vectors([helper.make_node("MatMul", ["x", "w"], ["output"])], {"x": 3}, {"w": weight("w", 3, 4)})
    spec = ConditionSpec(ValueSpec("vector", (3,)))
    programs = {
        "sample": Program(OneShot(latent=(3,), graph="g"), {}, ValueSpec("vector", (4,))),
        "decode": Program(OneShot(graph="g", conditions=("x",)), {"x": spec}, ValueSpec("vector", (4,))),
    }
    entry = GraphEntry("g.onnx", "decoder", (InputEntry("x", (1, 3)),))
    path = saved(tmp_path / "d", Manifest("decoder", "0", programs, {"g": entry}), {"g.onnx": model})
    rows = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32).tolist()
    compare(path, ("decode", 4, {"inputs": {"x": rows}}), ("decode", 2, {"inputs": rows[0]}))
    assert refusal(LOAD + "await bundle.run('decode', 2)", str(path), at()) == (
        "CallError", "condition 'x' must be given for this model"
    )  # fmt: skip


WRONG = [
    ("bundle.run('encode', 1)", "this model has no program 'encode'; valid names: sample"),
    ("bundle.sample(1, { stesp: 2 })", "the sampler 'one_shot' has no option 'stesp'; valid names: "),
    ("bundle.sample(1, { temperature: 'warm' })", "'temperature' of the sampler 'one_shot' must be a number"),
    ("bundle.sample(1, { inputs: 3 })", "condition 'label' has the value 3, outside 0 … 2"),
    ("bundle.sample(1, { inputs: 0.5 })", "condition 'label' must be integers"),
    ("bundle.sample(2, { inputs: [0, 1, 2] })", "condition 'label' must have the shape (2), not (3)"),
    ("bundle.sample(1, { inputs: { colour: 1 } })", "no condition 'colour'; valid names: label"),
    ("bundle.sample(1, { inputs: 'dog' })", "'dog' is no class; give a number from 0 to 2"),
    ("bundle.sample(-1)", "n and start must not be negative"),
    (
        "load(given[0], { engine: 'webnn' })",
        "has no engine 'webnn'; valid names: onnxruntime-web, ",
    ),
    ("load(7)", "a bundle is loaded from an address, an ArrayBuffer, a Uint8Array or a Blob"),
    ("new Noise(0, 0, 1).normal([1], { stream: 'x' })", "there is no stream 'x' of noise"),
]


def test_a_wrong_call_is_one_sentence(of_kind: Callable[..., Path]) -> None:
    tries = [f"async () => {call}" for call, _ in WRONG]
    code = f"""
    const {{ Noise }} = await from("index.js");
    const found = [];
    for (const one of [{", ".join(tries)}]) {{
      await one().then(() => found.push(""), ({{ name, message }}) => found.push(`${{name}}: ${{message}}`));
    }}
    answer(found);
    """
    for (_, said), message in zip(WRONG, run(LOAD + code, str(of_kind("one_shot")), at()), strict=True):
        assert message.startswith("CallError: ")
        assert said in message


def test_an_unknown_sampler_is_named(of_kind: Callable[..., Path]) -> None:
    path = of_kind("autoregressive", niwaki_runtime.samplers.DirectCoding(7, graph="decode", conditions=()))
    name, message = refusal(f"{LOAD} await bundle.sample(1)", str(path), at())
    assert name == "CallError"
    assert message.startswith("the browser runtime has no sampler 'direct_coding', it has ")


def test_a_library_that_is_not_there_is_said(of_kind: Callable[..., Path]) -> None:
    name, message = refusal(f"{LOAD} await bundle.sample(1)", str(of_kind("one_shot")), "file:///nowhere.mjs")
    assert (name, message) == (
        "NiwakiError", "onnxruntime-web does not lie at file:///nowhere.mjs; npm install onnxruntime-web"
    )  # fmt: skip


def test_every_sampler_is_a_file_of_its_kind() -> None:
    """`niwaki export --target browser` looks there."""
    kinds = run('const { samplerKinds } = await from("index.js"); answer(samplerKinds())')
    assert kinds == sorted(path.stem for path in (BROWSER / "src" / "samplers").glob("*.js"))
