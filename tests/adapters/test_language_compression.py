"""Language models are compressed to the end: calibrated on real strides, weights once, a verdict on text."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from small_language import LENGTH, adapted

import niwaki
import niwaki_runtime
from niwaki import data
from niwaki.adapters.language import (
    LanguageModel,
    adapt_language_model,
    bits_per_token,
    bundle_bits_per_token,
    forced_log_probs,
)
from niwaki.compression.config import CompressConfig, QuantizeConfig
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.quantization.calibrate import InputRecorder, calibration_inputs
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.quantization.static import holds_attention, quantize
from niwaki.compression.search.output_error import OutputError
from niwaki.compression.seeds import CALIBRATION
from niwaki.core.contract import CallError
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.deployment import export_graphs, package
from niwaki.deployment.parity import MOST_CALLS, Recorder, record_calls
from niwaki.training import TrainConfig, fit
from niwaki_runtime.samplers import Autoregressive, NumpyBackend

WORDS = [
    "the",
    "a",
    "model",
    "text",
    "of",
    "writes",
    "small",
    "tree",
    "prunes",
    "learns",
    "and",
    "never",
    "grows",
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    rng = np.random.default_rng(0)
    passages = [" ".join(rng.choice(WORDS, 110)) + "." for _ in range(110)]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("\n\n".join(passages))
    return data.load(data.DataConfig(source="text", path=str(path), length=LENGTH))


@pytest.fixture(scope="module")
def trained(texts: data.Dataset) -> LanguageModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=48, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=None,
        tie_word_embeddings=True,
    )  # fmt: skip
    network = transformers.LlamaForCausalLM(config)
    model = adapt_language_model(network, tokenizer=byte_tokenizer(), length=LENGTH, stride=8)
    fit(model, texts.train, TrainConfig(steps=120, batch=32, lr=1e-2, ema=0.9, checkpoint_every=0), seed=0)
    return model.eval()


def test_prefill_is_calibrated_on_strides_of_real_samples() -> None:
    model = adapted("llama")
    seen = calibration_inputs(model, 64)
    made = model.sample(32, seed=CALIBRATION).numpy()
    fed = np.concatenate([np.full((len(made), 1), model.config.first), made[:, :-1]], axis=1)
    assert {int(i["position"][0]) for i in seen["prefill"]} == {0, 8, 16, 24}
    rows = {(p, fed[j, p : p + 8].tobytes()) for p in (0, 8, 16, 24) for j in range(len(fed))}
    for one in seen["prefill"]:
        assert (int(one["position"][0]), one["tokens"][0].tobytes()) in rows
        assert bool(one["key_0"].any()) == (int(one["position"][0]) > 0)


def test_few_inputs_are_spread_over_all_positions() -> None:
    seen = calibration_inputs(adapted("llama"), 10)["decode"]
    places = sorted(int(i["position"][0]) for i in seen)
    assert len(places) == 10
    assert places[0] <= 3
    assert places[-1] >= LENGTH - 4
    assert max(np.diff(places)) <= 5


@pytest.mark.parametrize(("calls", "batch", "n"), [(200, 32, 10), (7, 50, 30), (1, 64, 20), (3, 4, 100)])
def test_what_is_held_while_recording_stays_small(calls: int, batch: int, n: int) -> None:
    graph = adapted("llama").graphs()["decode"]
    inputs = [torch.arange(batch), torch.zeros(1), *(torch.zeros(s.shape).expand(batch, *s.shape[1:])
              for s in graph.state)]  # fmt: skip
    object.__setattr__(graph, "module", lambda *_: None)
    seen, most = InputRecorder(graph, n), 0
    for _ in range(calls):
        seen(*inputs)
        most = max(most, sum(map(len, seen.calls.values())))
    assert most <= 2 * n
    assert len(seen.spread()) == min(n, calls * batch)


def test_recorded_calls_are_bounded_and_evenly_spread() -> None:
    class Counting:
        state = ()

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    recorder = Recorder(Counting())  # type: ignore[arg-type]
    for i in range(1000):
        recorder(torch.tensor([i]))
    at = [int(asked[0][0]) for asked, _ in recorder.calls]
    assert MOST_CALLS / 2 <= len(at) <= MOST_CALLS
    assert len(set(np.diff(at))) == 1
    assert all(int(said[0][0]) == int(asked[0][0]) + 1 for asked, said in recorder.calls)


def test_a_call_is_remembered_as_it_was_asked() -> None:
    """The sampler writes new rows into the cache that it handed in: what is remembered is from before."""
    model = adapted("llama")
    _, recorded = record_calls(model, 2, seed=3)
    for asked, _ in recorded["decode"].calls:
        place, key = int(asked[1][0]), asked[2]
        assert key[:, :, place - 1].any() or place == 0


@pytest.mark.parametrize(
    ("operators", "held"),
    [
        (["MatMul", "Softmax", "Transpose", "MatMul"], True),
        (["Softmax", "MatMul"], True),
        (["MatMul", "Softmax"], False),
        (["MatMul", "Softmax", "Relu", "MatMul"], False),
        (["MatMul", "Transpose", "MatMul"], False),
    ],
)
def test_attention_is_found_where_it_is(operators: list[str], held: bool, tmp_path: Path) -> None:
    square = onnx.helper.make_tensor_value_info("v0", onnx.TensorProto.FLOAT, (4, 4))
    nodes = [
        onnx.helper.make_node(kind, [f"v{i}", "v0"] if kind == "MatMul" else [f"v{i}"], [f"v{i + 1}"])
        for i, kind in enumerate(operators)
    ]
    out = onnx.helper.make_tensor_value_info(f"v{len(nodes)}", onnx.TensorProto.FLOAT, (4, 4))
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [square], [out])), tmp_path / "a.onnx"
    )
    assert holds_attention(tmp_path / "a.onnx") == held


@pytest.mark.slow
def test_a_language_model_is_smoothed_without_being_told(trained: LanguageModel, tmp_path: Path) -> None:
    graphs = export_graphs(trained, tmp_path / "float")
    assert all(map(holds_attention, graphs.values()))
    asked = [
        QuantizeConfig(backend="nncf", calibration=32, model_type=m) for m in (None, "transformer", "plain")
    ]
    made = []
    for i, config in enumerate(asked):
        (tmp_path / str(i)).mkdir()
        made.append(quantize(trained, graphs, tmp_path / str(i), config)["decode"].read_bytes())
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.slow
def test_int8_weights_are_stored_once(trained: LanguageModel, texts: data.Dataset, tmp_path: Path) -> None:
    x = texts.test.x[:64]
    before = bits_per_token(trained, x).mean()
    floats = package(trained, export_graphs(trained, tmp_path / "f"), tmp_path / "f.niwaki", archive=False)
    size = sum(p.stat().st_size for p in floats.iterdir())
    for settings, shrunk in (({"calibration": 64}, 0.6), ({"mode": "weights"}, 0.6)):
        made = quantize_model(trained, QuantizeConfig(backend="niwaki", **settings)).model
        name = settings.get("mode", "static")
        graphs = export_graphs(made, tmp_path / f"{name}")
        out = package(made, graphs, tmp_path / f"{name}.niwaki", archive=False)
        assert sum(p.stat().st_size for p in out.iterdir()) < shrunk * size
        for file in ("decode.onnx", "prefill.onnx"):
            held = onnx.load(str(out / file), load_external_data=False).graph.initializer
            own = [t for t in held if t.data_type == onnx.TensorProto.INT8 and len(t.raw_data) > 1024]
            assert not own, f"{file} keeps {own[0].name} to itself"
        for engine in ("openvino", "onnxruntime"):
            bundle = niwaki_runtime.load(out, engine=engine, threads=1)
            assert bundle_bits_per_token(bundle, x).mean() < before + 0.3
            few, sampler = x[:4].numpy().astype(np.int64), bundle.sampler
            assert isinstance(sampler, Autoregressive)
            whole, single = (
                forced_log_probs(bundle.graphs, sampler.override(prefill=p), few, NumpyBackend())
                for p in ("prefill", "")
            )
            assert abs(whole - single).mean() < 0.2  # both graphs were calibrated


@pytest.mark.slow
def test_compress_goes_to_the_end_with_a_verdict_on_text(
    trained: LanguageModel, texts: data.Dataset, tmp_path: Path
) -> None:
    steps = [
        {"kind": "prune", "ratio": 0.3},
        {"kind": "finetune", "steps": 20, "batch": 16},
        {"kind": "quantize", "backend": "niwaki", "calibration": 64},
    ]
    plan = CompressConfig.model_validate({"steps": steps, "measure": False, "rounds": 1, "batches": (1,)})
    found = niwaki.compress(trained, data=texts, out=tmp_path / "small", rounds=1, n=200, plan=plan)
    assert [s["kind"] for s in found["steps"]] == ["prune", "finetune", "quantize"]
    assert "the test text took" in found["verdict"]["fidelity"]["text"]
    for axis in ("fidelity", "diversity"):
        one = found["verdict"][axis]
        assert one["outcome"] in ("no loss", "loss", "inconclusive")
        assert one["interval"][0] <= one["delta"] <= one["interval"][1]
    told = found["comparison"]["bits_per_byte"]
    x = texts.test.x[: found["n"]]
    size = texts.test.attributes["bytes"][: found["n"]].double().mean() / LENGTH
    assert told["before"] == pytest.approx(bits_per_token(trained, x).mean() / float(size), rel=1e-4)
    bundle = niwaki_runtime.load(found["bundle"], engine="openvino", threads=2)
    assert told["after"] == pytest.approx(bundle_bits_per_token(bundle, x).mean() / float(size), rel=1e-3)
    assert bundle.manifest.verdict["fidelity"]["outcome"] == found["verdict"]["fidelity"]["outcome"]
    assert found["comparison"]["figures"]["distinct_2"]["after"]["value"] > 0
    json.dumps(found["comparison"], allow_nan=False)
    _decodes_without_torch(Path(found["bundle"]))


def _decodes_without_torch(bundle: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import niwaki_runtime; from niwaki_runtime.tokenizer import tokenizer_of\n"
        "bundle = niwaki_runtime.load(sys.argv[1], threads=1)\n"
        "made = bundle.sample(2, seed=1)\n"
        "text = tokenizer_of(bundle).decode(made[0])\n"
        "assert isinstance(text, str) and text.encode()[:4] == bytes(made[0].tolist())[:4], text\n"
        "assert not any(m.split('.')[0] in ('niwaki', 'transformers') for m in sys.modules)\n"
        "print(text)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(bundle)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.strip()


def test_text_of_other_tokens_is_refused(texts: data.Dataset, tmp_path: Path) -> None:
    from niwaki.evaluation.judges.base import Tools
    from niwaki.evaluation.judges.predictions import Predictions

    with pytest.raises(CallError, match="the model's own tokenizer"):
        Predictions(Tools(list)).evidence(adapted("llama"), texts, "test", 50, 0)


def test_narrowed_keys_are_compared_where_nothing_is_remembered_yet() -> None:
    model = adapted("gpt2").eval()
    error = OutputError(model, calibration_inputs(model, 16))
    narrowed = pruned(model, PruneConfig(ratio=0.25, refit=False), seed=0, inputs=None).model
    shapes = [[s.shape for s in m.shipped_graphs()["decode"].state] for m in (model, narrowed)]
    assert shapes[0] != shapes[1]
    assert 0.0 < error.of(narrowed) < math.inf
