"""executorch's programs of small bundles make the bundle's samples; where it is not installed, it is said."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from serving.bundles import pictures

import niwaki
from niwaki.core.contract import CallError, NiwakiError

INSTALLED = find_spec("executorch") is not None


@pytest.mark.skipif(INSTALLED, reason="executorch is here")
def test_a_missing_executorch_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    bundle = pictures(tmp_path / "insects.niwaki")
    with pytest.raises(NiwakiError, match=r"niwaki\[executorch\]"):
        niwaki.export(bundle, target="executorch", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not INSTALLED, reason="executorch is not installed")
def test_programs_make_the_samples_of_the_bundle(tmp_path: Path) -> None:
    bundle = pictures(tmp_path / "insects.niwaki")
    niwaki.export(bundle, target="executorch", out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["check"]["passed"]
    assert record["check"]["max"] <= 1e-4
    for graph in record["graphs"].values():
        assert (tmp_path / "out" / graph["file"]).stat().st_size == graph["bytes"]
        assert sum(graph["delegated"].values()) > 0
    with pytest.raises(CallError, match="no program 'dream'"):
        niwaki.export(bundle, target="executorch", out=tmp_path / "no", options={"program": "dream"})
