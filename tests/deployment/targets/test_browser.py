"""The browser's folder: all that a page needs lies in it, and what it cannot run is refused beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.bundles import pictures, texts

import niwaki_runtime
from niwaki.api.export import export
from niwaki.core.contract import CallError, NiwakiError
from niwaki.deployment import package
from niwaki.deployment.targets.browser import LIBRARY
from niwaki_runtime.manifest import Manifest, write_manifest
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import DirectCoding

ROOT = Path(__file__).parents[3] / "browser"


@pytest.fixture
def library(tmp_path: Path) -> str:
    """A folder of node's packages with the files' names, and nothing in them."""
    folder = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    folder.mkdir(parents=True)
    for file in LIBRARY:
        (folder / file).write_text(f"this is {file}")
    return str(tmp_path / "node_modules")


def written(bundle: Path, out: Path, library: str) -> dict[str, Any]:
    return export(bundle, target="browser", out=out, options={"library": library})


@pytest.mark.parametrize("archive", [True, False])
def test_the_folder_holds_all_that_the_page_loads(
    archive: bool, exported: Callable, library: str, tmp_path: Path
) -> None:
    bundle = package(*exported("conv"), tmp_path / "a.niwaki", archive=archive)
    out = tmp_path / "page"
    found = written(bundle, out, library)
    assert found["index"] == out / "index.html"
    for part, folder in (("page", out), ("src", out / "niwaki")):
        for path in (ROOT / part).rglob("*.*"):
            assert (folder / path.relative_to(ROOT / part)).read_bytes() == path.read_bytes()
    for file in LIBRARY:
        assert (out / "onnxruntime-web" / file).read_text() == f"this is {file}"
    assert (out / "a.niwaki").is_file()
    assert niwaki_runtime.inspect(out / "a.niwaki") == niwaki_runtime.inspect(bundle)
    about = json.loads((out / "demo.json").read_text())
    assert (about["name"], about["bundle"]) == ("toy", "a.niwaki")
    assert about["bytes"] == (out / "a.niwaki").stat().st_size
    assert about["reference"] == found["reference"]
    with np.load(out / about["reference"]["file"]) as file:
        again = niwaki_runtime.load(bundle, engine="onnxruntime", precision="exact").sample(16, seed=0)
        np.testing.assert_array_equal(file["samples"], again)
    assert found["bytes_in_all"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())


def test_a_page_is_replaced_and_nothing_else_is(library: str, tmp_path: Path) -> None:
    bundle = pictures(tmp_path / "a.niwaki")
    written(bundle, tmp_path / "page", library)
    (tmp_path / "page" / "stale.js").write_text("")
    written(bundle, tmp_path / "page", library)
    assert not (tmp_path / "page" / "stale.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    with pytest.raises(CallError, match="is there and no page of this program; name another folder"):
        written(bundle, tmp_path / "mine", library)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "three years"


def test_a_library_is_looked_for_here_and_above_and_its_absence_is_one_sentence(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = pictures(tmp_path / "a.niwaki")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert export(bundle, target="browser", out=tmp_path / "page")["out"] == tmp_path / "page"
    with pytest.raises(NiwakiError, match=r"npm install onnxruntime-web, or name its folder by --option lib"):
        written(bundle, tmp_path / "other", str(tmp_path / "deep"))
    assert not (tmp_path / "other").exists()


def test_a_sampler_that_no_page_has_is_named(library: str, tmp_path: Path) -> None:
    bundle = texts(tmp_path / "t.niwaki")
    known = niwaki_runtime.inspect(bundle)
    program = known.programs["sample"]
    sampler = DirectCoding(program.output.shape[0], graph="decode", conditions=())
    programs = {"sample": Program(sampler, {}, program.output)}
    write_manifest(bundle, Manifest("coder", "0", programs, known.graphs))
    with pytest.raises(NiwakiError, match="the browser runtime has no sampler 'direct_coding', it has "):
        written(bundle, tmp_path / "page", library)
    assert not (tmp_path / "page").exists()
