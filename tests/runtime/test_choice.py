"""Which engine runs a bundle: by what it says of them and by how much memory there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from niwaki_runtime.choice import choose_engine, memory_bytes, needed_memory
from niwaki_runtime.engines import available
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.manifest import FileEntry, GraphEntry, InputEntry, Manifest, PackedEntry
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import OneShot

MEGABYTE = 1_000_000
MANIFEST = Manifest("m", "1", {"sample": Program(OneShot(latent=(2,)))}, {})


def held(size: int) -> Manifest:
    return replace(MANIFEST, files={"g.onnx": FileEntry("", size), "card.md": FileEntry("", 10**9)})


@pytest.mark.parametrize(
    ("text", "size"),
    [("32MB", 32_000_000), ("1.5 GiB", 3 << 29), ("64kib", 65536), ("500", 500), (48_000_000, 48_000_000)],
)
def test_amounts_of_memory(text: object, size: int) -> None:
    assert memory_bytes(text) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "32 apples", "0", True, "1e3", None, "nanMB"])
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(CallError, match="memory"):
        memory_bytes(text)  # type: ignore[arg-type]


def test_the_budget_decides_where_it_is_given() -> None:
    assert choose_engine("auto", held(0)) == "openvino"
    assert choose_engine("auto", held(0), "60MB") == "openvino"
    assert choose_engine("auto", held(0), "32MB") == "onnxruntime"
    assert choose_engine("auto", held(30 * MEGABYTE), "100MB") == "onnxruntime"
    with pytest.raises(
        NiwakiError, match="about 50 MB in openvino and 13 MB in onnxruntime, more than the 8 MB"
    ):
        choose_engine("auto", held(0), 8 * MEGABYTE)
    with pytest.raises(NiwakiError, match="about 50 MB in openvino, more than the 32 MB"):
        choose_engine("openvino", held(0), "32MB")


def test_weights_count_twice_and_packed_ones_as_they_unpack() -> None:
    base = needed_memory("openvino", held(0))
    assert needed_memory("openvino", held(MEGABYTE)) == base + 2 * MEGABYTE
    packed = replace(held(0), packed={"w.bin": PackedEntry("", MEGABYTE, "w.packed")})
    assert needed_memory("openvino", packed) == base + 2 * MEGABYTE


def test_engines_that_cannot_run_it_are_not_taken() -> None:
    assert choose_engine("auto", replace(MANIFEST, refused={"openvino": "no Det"})) == "onnxruntime"
    with pytest.raises(NiwakiError, match="does not run on openvino: no Det; use engine='onnxruntime'"):
        choose_engine("openvino", replace(MANIFEST, refused={"openvino": "no Det"}))
    with pytest.raises(NiwakiError, match="no installed engine runs this bundle"):
        choose_engine("auto", replace(MANIFEST, refused=dict.fromkeys(available(), "no Det")))


def test_a_manifest_keeps_what_it_knows_of_engines() -> None:
    parity = {"generator": {"batches": [1, 2], "measure": "m", "engines": {"openvino": 1e-7}}}
    graphs = {"generator": GraphEntry("g.onnx", "generator", (InputEntry("z", (1, 2)),))}
    known = replace(held(1), graphs=graphs, refused={"openvino": "no Det"}, parity=parity)
    again = Manifest.from_json(known.to_json())
    assert (again.refused, again.parity) == (known.refused, parity)
    assert "refused" not in MANIFEST.to_json()
