"""A bundle as a folder of the hub: its layout, its card, and the way there and back without a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from PIL import Image

import niwaki
import niwaki_runtime
from niwaki.core.contract import DataSpec
from niwaki.models import build
from niwaki.workflow.hub.model_card import model_card
from niwaki.workflow.stages.export import write_bundle
from niwaki_runtime.errors import BundleError, CallError, NiwakiError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
    model = build("dcgan", {"width": 8, "features": 16, "latent": 8}, spec).eval()
    return write_bundle(model, tmp_path_factory.mktemp("hub") / "tiny.niwaki")


def head_of(readme: Path) -> dict[str, Any]:
    _, head, _ = readme.read_text().split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_the_folder_is_the_bundle_with_a_card(bundle, tmp_path):
    folder = niwaki.save_pretrained(bundle, tmp_path / "hub", license="mit")
    assert {"README.md", "config.json", "manifest.json", "samples.png"} <= {p.name for p in folder.iterdir()}
    with Image.open(folder / "samples.png") as picture:
        assert picture.format == "PNG"
    head = head_of(folder / "README.md")
    assert head["library_name"] == "niwaki"
    assert head["license"] == "mit"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    text = (folder / "README.md").read_text()
    assert "## Limits of use" in text
    assert "Not stated" not in text
    one = niwaki_runtime.load(bundle).sample(3, seed=5)
    assert np.array_equal(niwaki.from_pretrained(folder).sample(3, seed=5), one)
    assert np.array_equal(niwaki_runtime.load(folder).sample(3, seed=5), one)


def test_figures_and_losses_stand_in_the_model_index(bundle):
    manifest = niwaki_runtime.inspect(bundle)
    verdict = {"fidelity": {"delta": 0.25, "statistic": "distance", "outcome": "no loss"}}
    object.__setattr__(manifest, "verdict", verdict)
    text = model_card(manifest, results=[{"name": "Fréchet distance", "value": 1.5, "better": "lower"}])
    (entry,) = yaml.safe_load(text.split("---\n", 2)[1])["model-index"]
    metrics = {m["name"]: m["value"] for result in entry["results"] for m in result["metrics"]}
    assert metrics == {"Fréchet distance": 1.5, "fidelity lost by compression, distance: no loss": 0.25}


def test_a_folder_is_replaced_but_other_files_are_left_alone(bundle, tmp_path):
    first = niwaki.save_pretrained(bundle, tmp_path / "hub")
    niwaki.save_pretrained(first, tmp_path / "hub", license="cc-by-4.0")  # also from the folder itself
    assert head_of(tmp_path / "hub" / "README.md")["license"] == "cc-by-4.0"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(CallError, match="holds other things"):
        niwaki.save_pretrained(bundle, tmp_path / "other")
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years of work"


def test_an_altered_folder_is_refused(bundle, tmp_path):
    folder = niwaki.save_pretrained(bundle, tmp_path / "hub")
    graph = next(folder.rglob("*.onnx"), None) or max(folder.iterdir(), key=lambda p: p.stat().st_size)
    graph.write_bytes(graph.read_bytes() + b"x")
    with pytest.raises(BundleError):
        niwaki.from_pretrained(folder)


def test_what_is_pushed_is_what_comes_back(bundle, tmp_path, monkeypatch):
    hub: dict[str, Path] = {}

    def upload(*, repo_id: str, folder_path: Path, **_: Any) -> Any:
        hub[repo_id] = Path(folder_path).rename(tmp_path / "remote")
        return SimpleNamespace(commit_url="address of the commit")

    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **_: None)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(hub[name]))
    assert niwaki.push_to_hub(bundle, "user/tiny") == "address of the commit"
    found = niwaki.from_pretrained("user/tiny")
    assert np.array_equal(found.sample(2, seed=1), niwaki_runtime.load(bundle).sample(2, seed=1))


def test_without_a_network_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NiwakiError, match="user/nowhere is no folder here and could not be had from the hub"):
        niwaki.from_pretrained("user/nowhere")


@pytest.mark.parametrize("name", ["../secret", "a/b/c", "", "user/na me"])
def test_what_is_no_name_of_the_hub_is_refused(name, bundle):
    with pytest.raises(CallError):
        niwaki.push_to_hub(bundle, name)


def test_a_run_without_a_bundle_says_what_to_do(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 2}')
    (tmp_path / "recipe.yaml").write_text(
        "name: x\ndata: {source: digits}\nmodel: {name: dcgan}\ntrain: {steps: 1, batch: 8, lr: 0.001}\n"
    )
    with pytest.raises(CallError, match="holds no bundle yet"):
        niwaki.save_pretrained(tmp_path, tmp_path / "hub")
