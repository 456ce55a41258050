"""Both engines compute what the graph says, in float32 to 1e-6, and never overwrite what they returned."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime.small_graphs import CACHE, CLASSES, LATENT, SIZE, STATE, SUMMED, VOCABULARY, full_bytes, weight

from niwaki_runtime.engines import GraphRunner, available, byte_products, open_graph, resolve_engine
from niwaki_runtime.errors import CallError, NiwakiError

ENGINES = ["openvino", "onnxruntime"]
RNG = np.random.default_rng(0)


def opened(engine: str, path: Path, **options: Any) -> GraphRunner:
    return open_graph(engine, path, precision="exact", threads=1, **options)


def generated(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    return np.tanh(z @ weight("w", LATENT, SIZE) + weight("table", CLASSES, SIZE)[label])


def decoded(token: np.ndarray, position: int, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cache = cache / 2
    cache[:, position] = weight("table", VOCABULARY, CACHE[1])[token] / 8
    return cache.mean(1) @ weight("w", CACHE[1], VOCABULARY) / 8, cache


@pytest.mark.parametrize("engine", ENGINES)
def test_any_batch_size(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(engine, onnx_file("one_shot"))
    for n in (1, 2, 7, 1, 64, 3, 5, 6, 8, 9, 10, 1):  # more sizes than stay bound
        z, label = RNG.standard_normal((n, LATENT)).astype(np.float32), RNG.integers(0, CLASSES, n)
        np.testing.assert_allclose(run(z, label), generated(z, label), atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_state_goes_round(engine: str, onnx_file: Callable[[str], Path]) -> None:
    """Twenty positions with a cache too large to be copied; nothing that was returned changes afterwards."""
    run = opened(engine, onnx_file("autoregressive"), state=STATE)
    assert run.state == STATE
    cache = STATE[0].zeros(2)
    expected = cache.copy()
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for position in range(20):
        token = RNG.integers(0, VOCABULARY, 2)
        logits, cache = run(token, np.array([position]), cache)
        wanted, expected = decoded(token, position, expected)
        np.testing.assert_allclose(logits, wanted, atol=1e-6)
        np.testing.assert_allclose(cache, expected, atol=1e-6)
        kept.append((cache, expected.copy()))
    for returned, then in kept:
        np.testing.assert_allclose(returned, then, atol=1e-6)


@pytest.mark.parametrize("kind", ["one_shot", "diffusion", "autoregressive"])
def test_engines_agree(kind: str, onnx_file: Callable[[str], Path]) -> None:
    shapes = {
        "one_shot": lambda n: (RNG.standard_normal((n, LATENT)), RNG.integers(0, CLASSES, n)),
        "diffusion": lambda n: (
            RNG.standard_normal((n, SIZE)),
            RNG.uniform(0, 999, n),
            RNG.integers(0, CLASSES, n),
        ),
        "autoregressive": lambda n: (RNG.integers(0, VOCABULARY, n), np.array([3]), RNG.random((n, *CACHE))),
    }
    path = onnx_file(kind)
    a, b = (opened(engine, path) for engine in ENGINES)
    inputs = [v.astype(np.float32) if v.dtype.kind == "f" else v for v in shapes[kind](4)]
    first, second = a(*inputs), b(*inputs)
    assert isinstance(first, tuple) == (kind == "autoregressive")
    pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
    for x, y in pairs:
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_order_is_what_the_caller_names(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(
        engine,
        onnx_file("autoregressive"),
        inputs=("cache", "position", "token"),
        outputs=("cache_next", "logits"),
    )
    cache, token = RNG.random((2, *CACHE)).astype(np.float32), np.array([1, 4])
    new, logits = run(cache, np.array([5]), token)
    wanted, expected = decoded(token, 5, cache.copy())
    np.testing.assert_allclose(new, expected, atol=1e-6)
    np.testing.assert_allclose(logits, wanted, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_results_outlive_later_calls_and_inputs_stay(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(engine, onnx_file("one_shot"))
    z, label = RNG.standard_normal((2, LATENT)).astype(np.float32), np.array([0, 1])
    before = z.copy()
    first = run(z, label)
    copy = first.copy()
    run(z + 1, label)
    np.testing.assert_array_equal(first, copy)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("engine", ENGINES)
def test_views_and_frozen_arrays_are_read_right(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(engine, onnx_file("autoregressive"))
    whole = RNG.random((4, *CACHE)).astype(np.float32)
    part, token = whole[::2], np.array([0, 1])
    part.flags.writeable = False
    np.testing.assert_allclose(
        run(token, np.array([0]), part)[1], decoded(token, 0, part.copy())[1], atol=1e-6
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_take_turns(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(engine, onnx_file("one_shot"))
    label, wrong = np.array([0, 1, 2]), []

    def work(seed: int) -> None:
        z = np.random.default_rng(seed).standard_normal((3, LATENT)).astype(np.float32)
        for _ in range(200):
            if np.abs(run(z, label) - generated(z, label)).max() > 1e-6:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_inputs_are_named(engine: str, onnx_file: Callable[[str], Path]) -> None:
    run = opened(engine, onnx_file("one_shot"))
    z, label = np.zeros((2, LATENT), np.float32), np.zeros(2, np.int64)
    with pytest.raises(CallError, match=r"takes 2 inputs \(z, label\), not 1"):
        run(z)
    with pytest.raises(CallError, match="'z' of 'generator' has the shape"):
        run(z[:, :2], label)
    with pytest.raises(NiwakiError, match="no input 'zz'"):
        opened(engine, onnx_file("one_shot"), inputs=("zz", "label"))
    with pytest.raises(NiwakiError, match="also needs the input 'label'"):
        opened(engine, onnx_file("one_shot"), inputs=("z",))
    np.testing.assert_allclose(run(z, label), generated(z, label), atol=1e-6)  # and it still works


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_is_no_graph(engine: str, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph at all")
    with pytest.raises(NiwakiError, match="cannot read"):
        open_graph(engine, tmp_path / "broken.onnx")
    with pytest.raises(NiwakiError, match="does not exist"):
        open_graph(engine, tmp_path / "absent.onnx")


def test_wrong_calls_and_missing_engines(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Callable[[str], Path]
) -> None:
    with pytest.raises(CallError, match="did you mean 'openvino'"):
        resolve_engine("openvno")
    with pytest.raises(CallError, match="did you mean 'exact'"):
        open_graph("auto", onnx_file("one_shot"), precision="exakt")
    with pytest.raises(CallError, match="threads"):
        open_graph("auto", onnx_file("one_shot"), threads=0)
    assert available() == ENGINES
    assert resolve_engine("auto") == "openvino"
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "openvino" else find(name, *a)
    )
    assert resolve_engine("auto") == "onnxruntime"
    with pytest.raises(NiwakiError, match=r"niwaki-runtime\[openvino\]"):
        resolve_engine("openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda *a: None)
    with pytest.raises(NiwakiError, match="no inference engine is installed"):
        resolve_engine("auto")


def test_multiply_adds_by_hand() -> None:
    """What decides whether one thread is enough: matrix products, and convolutions of every kind."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    from niwaki_runtime.engines.openvino import multiply_adds

    def constant(*shape: int) -> Any:
        return ops.constant(np.zeros(shape, np.float32))

    def count(shape: tuple[int, ...], build: Callable[[Any], Any]) -> int:
        x = ops.parameter(shape, np.float32)
        return int(multiply_adds(openvino.Model([build(x)], [x])))

    zero, one, pad = [0, 0], [1, 1], [1, 1]
    assert count((3, 5), lambda x: ops.matmul(x, constant(5, 7), False, False)) == 3 * 5 * 7
    assert count((5, 3), lambda x: ops.matmul(x, constant(7, 5), True, True)) == 3 * 5 * 7
    assert count((2, 4, 6, 6), lambda x: ops.convolution(x, constant(8, 4, 3, 3), [2, 2], pad, pad, one)) == (
        2 * 8 * 3 * 3 * 4 * 9
    )
    grouped = lambda x: ops.group_convolution(x, constant(4, 2, 1, 3, 3), one, pad, pad, one)  # noqa: E731
    assert count((1, 4, 6, 6), grouped) == 8 * 36 * 9
    up = lambda x: ops.convolution_backprop_data(x, constant(4, 5, 2, 2), [2, 2], None, zero, zero)  # noqa: E731
    assert count((1, 4, 6, 6), up) == 36 * 4 * 5 * 4
    assert count((3, 5), ops.relu) == 0


@pytest.mark.parametrize("precision", ["fast", "exact"])
@pytest.mark.parametrize("kind", ["MatMul", "Conv", "weights"])
@pytest.mark.parametrize("engine", ENGINES)
def test_products_of_bytes_are_added_without_overflow(
    engine: str, kind: str, precision: str, tmp_path: Path
) -> None:
    """Processors without VNNI add two such products in 16 bits, where they do not fit: 32.4 came out."""
    file = tmp_path / "full.onnx"
    file.write_bytes(full_bytes(kind).SerializeToString())
    run = open_graph(engine, file, precision=precision)
    x = np.ones((4, SUMMED, 1, 1) if kind == "Conv" else (4, SUMMED), np.float32)
    np.testing.assert_allclose(run(x), SUMMED, rtol=1e-2)


@pytest.mark.parametrize(
    ("flags", "clips"),
    [("avx2 fma", True), ("avx2 avx_vnni", False), ("avx512f avx512_vnni", False), ("amx_int8", False)],
)
def test_which_processors_clip(flags: str, clips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_products.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(byte_products, "processor_flags", lambda: set(flags.split()))
    assert byte_products.clips_byte_products.__wrapped__() is clips
    monkeypatch.setattr(byte_products.platform, "machine", lambda: "aarch64")
    assert byte_products.clips_byte_products.__wrapped__() is False
