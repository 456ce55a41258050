"""In both engines, without torch: the same tokens, the same logits, the weights stored once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_language import LENGTH, LEVELS, adapted

import niwaki_runtime.samplers
from niwaki.adapters.language import LanguageModel, bits_per_token, bundle_bits_per_token
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki.deployment import export_graphs, package
from niwaki_runtime.archive import pack
from niwaki_runtime.errors import BundleError, CallError
from niwaki_runtime.manifest import write_manifest
from niwaki_runtime.samplers import NumpyBackend
from niwaki_runtime.samplers.reading import teacher_forced
from niwaki_runtime.tokenizer import FILE, tokenizer_of

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mixtral", "qwen3_moe")]
NAMES = ["llama, tied", "gpt2", *SLOW]
ENGINES = ["openvino", "onnxruntime"]


pytestmark = pytest.mark.slow  # two graphs of a language model each: half a minute


@pytest.fixture(scope="module", params=NAMES[:2])
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Path]:
    model, directory = adapted(request.param), tmp_path_factory.mktemp("bundle")
    graphs = export_graphs(model, directory / "graphs")
    return model, package(model, graphs, directory / "model", archive=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundle_makes_the_tokens_of_torch(made: tuple[LanguageModel, Path], engine: str) -> None:
    model, path = made
    bundle = niwaki_runtime.load(path, engine=engine, precision="exact", threads=1)
    given = np.full((3, model.config.prompt), -1)
    given[0, :9], given[2, :12] = np.arange(2, 11), np.arange(20, 32)
    for condition in (None, given):
        wanted = model.sample(3, seed=1, condition=condition).numpy()
        np.testing.assert_array_equal(bundle.sample(3, seed=1, condition=condition), wanted)
        np.testing.assert_array_equal(
            bundle.sample(3, seed=1, condition=condition, temperature=0.0),
            model.sample(3, seed=1, condition=condition, temperature=0.0).numpy(),
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundle_gives_the_logits_of_torch(made: tuple[LanguageModel, Path], engine: str) -> None:
    model, path = made
    bundle = niwaki_runtime.load(path, engine=engine, precision="exact", threads=1)
    x = torch.randint(2, LEVELS, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    assert isinstance(bundle.sampler, niwaki_runtime.samplers.Autoregressive)
    with torch.no_grad():
        wanted = model.logits(x).numpy()
    for prefill in ("prefill", ""):
        sampler = bundle.sampler.override(prefill=prefill)
        found = teacher_forced(bundle.graphs, sampler, x.numpy(), NumpyBackend())
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_allclose(bundle_bits_per_token(bundle, x), bits_per_token(model, x), atol=1e-5)


def test_the_graphs_share_their_weights(made: tuple[LanguageModel, Path]) -> None:
    model, path = made
    held = 4 * sum(p.numel() for p in model.parameters() if p.numel() >= 256)
    shared = (path / "weights.bin").stat().st_size
    table = 4 * LEVELS * 32  # a tied embedding is stored a second time, transposed for the last product
    pages = 4096 * (1 + sum(p.numel() >= 256 for p in model.parameters()))
    assert held <= shared <= held + table + pages
    for name in ("decode", "prefill"):
        graph = path / f"{name}.onnx"
        assert graph.stat().st_size < 60_000


def test_a_bundle_reads_its_own_tokens(made: tuple[LanguageModel, Path], tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(made[1], path)
    (path / FILE).unlink(missing_ok=True)
    bare = write_manifest(path, niwaki_runtime.inspect(path))
    with pytest.raises(CallError, match="no tokenizer"):
        tokenizer_of(niwaki_runtime.load(path))
    (path / FILE).write_text(byte_tokenizer())
    write_manifest(path, bare)
    for one in (path, pack(path, tmp_path / "bundle.niwaki")):
        bundle = niwaki_runtime.load(one, threads=1)
        assert tokenizer_of(bundle).decode(np.array(list(b"lines"))) == "lines"
    bundle = niwaki_runtime.load(path)
    (path / FILE).write_text(byte_tokenizer() + " ")
    with pytest.raises(BundleError, match="was changed"):
        tokenizer_of(bundle)
