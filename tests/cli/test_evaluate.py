"""`niwaki evaluate` and `niwaki compare` of runs, folders and arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from niwaki.data import DataConfig, load

FAST = ("--features", "random", "--metrics", "precision,recall,frechet")


@pytest.fixture(scope="session")
def digits() -> Any:
    return load(DataConfig(source="digits"))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIWAKI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """60 real digits as another program would write them, and one file that breaks off."""
    path = tmp_path_factory.mktemp("pictures")
    for i, x in enumerate(digits.validation.values()[:60, 0].numpy()):
        Image.fromarray(np.round((x + 1) / 2 * 255).astype(np.uint8)).save(path / f"{i:03}.png")
    (path / "half.png").write_bytes((path / "000.png").read_bytes()[:50])
    return path


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """The same digits, dimmed and noisy, as floats."""
    path = tmp_path_factory.mktemp("arrays") / "noisy.npz"
    x = digits.validation.values()[:80].numpy()
    noise = np.random.default_rng(0).normal(size=x.shape)
    np.savez(path, samples=np.clip(0.4 * x - 0.3 + 0.5 * noise, -1, 1).astype(np.float32))
    return path


def test_a_folder_of_pictures_is_evaluated_and_its_broken_file_named(niwaki, folder: Path) -> None:
    said = niwaki("evaluate", folder, "--data", "digits", *FAST, "--json")
    assert said.status == 0, said.err
    found = said.json
    assert found["n"] == 60
    assert found["source"]["kind"] == "folder"
    assert [b["file"] for b in found["source"]["broken"]] == ["half.png"]
    assert list(found["samples"]["random"]) == ["precision", "recall", "frechet"]
    assert found["samples"]["random"]["precision"]["value"] > 0.8, "they are real digits"
    assert found["gate"]["samples"]["passed"]
    assert found["clusters"]["samples"]["features"] == "random"
    assert isinstance(found["fitness"]["random"]["fit"], bool)
    assert found["extractors"][0]["name"] == "random"
    said = niwaki("evaluate", folder, "--data", "digits", *FAST)
    assert said.status == 0
    shown = ("Precision", "Fréchet distance", "real data", "1 file is broken", "half.png", "60 samples from")
    for words in shown:
        assert words in said.out, words
    assert "ladders" not in said.err, "whether the features are fit is known by now"


def test_arrays_are_evaluated_with_the_data_of_a_run(niwaki, arrays: Path, trained: Path, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = {p: p.read_bytes() for p in run.glob("*.json")}
    said = niwaki("evaluate", arrays, "--data", run, *FAST, "--json")
    assert said.status == 0, said.err
    assert said.json["n"] == 80
    assert said.json["samples"]["random"]["precision"]["value"] < 0.3
    other = niwaki("evaluate", run, "--data", "digits", "evaluate.n=60", *FAST, "--json")
    assert other.status == 0, other.err
    assert (other.json["source"]["kind"], other.json["n"]) == ("run", 60)
    assert other.json["trained"]["random"].keys() == said.json["samples"]["random"].keys()
    assert {p: p.read_bytes() for p in run.glob("*.json")} == before, "nothing of the run is touched"


def test_two_sets_without_seeds_are_never_paired(niwaki, folder: Path, arrays: Path) -> None:
    said = niwaki("compare", folder, arrays, "--data", "digits", *FAST, "--json")
    assert said.status == 0, said.err
    found = said.json
    assert found["paired"] is False
    assert (found["comparison"]["n"], found["comparison"]["n_after"]) == (60, 80)
    assert found["comparison"]["fidelity"]["outcome"] == "loss"
    assert found["comparison"]["damage"] is None
    same = niwaki("compare", folder, folder, "--data", "digits", *FAST, "--json").json
    assert same["paired"] is False
    other = niwaki("evaluate", folder, "--against", arrays, "--data", "digits", *FAST, "--json").json
    assert other["sources"]["before"]["path"] == str(arrays), "against names the side before"
    assert other["comparison"]["fidelity"]["delta"] < 0
    said = niwaki("compare", folder, arrays, "--data", "digits", *FAST)
    for words in ("verdict", "fidelity", "loss", "without common seeds", "noisy.npz"):
        assert words in said.out, words


def test_samples_of_one_seed_are_paired(niwaki, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    words = ("-n", 120, "-o")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert niwaki("sample", run, "--seed", seed, *words, tmp_path / f"{name}.npz").status == 0
    same = niwaki("compare", tmp_path / "a.npz", tmp_path / "b.npz", "--data", "digits", *FAST, "--json").json
    assert same["paired"] is True
    assert {same["comparison"][axis]["outcome"] for axis in ("fidelity", "diversity")} == {"no loss"}
    other = niwaki(
        "compare", tmp_path / "a.npz", tmp_path / "c.npz", "--data", "digits", *FAST, "--json"
    ).json
    assert other["paired"] is False


def test_a_run_and_its_model_are_paired(niwaki, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    said = niwaki("compare", run, run / "model", "evaluate.n=100", *FAST, "--json")
    assert said.status == 0, said.err
    assert said.json["paired"] is True
    assert said.json["sources"]["before"]["n"] == 100
    assert said.json["comparison"]["fidelity"]["delta"] == 0


def test_a_run_keeps_what_was_found(niwaki, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    said = niwaki("evaluate", run, "evaluate.n=200", *FAST, "--json")
    assert said.status == 0, said.err
    kept = json.loads((run / "evaluation.json").read_text())
    assert kept == said.json
    assert list(kept["trained"]["random"]) == ["precision", "recall", "frechet"]
    assert {"clusters", "bias", "gate"} <= kept.keys()
    assert kept["gate"]["trained"]["text"]
    assert kept["fitness"]["random"]["text"]
    said = niwaki("evaluate", run)
    assert "trained model" in said.out
    assert "200 samples of seed 0" in said.out


def test_wrong_calls(niwaki, folder: Path, arrays: Path, digits: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.zeros((60, 3, 8, 8), np.float32))
    x = digits.validation.values()[:60].numpy()
    x[3] = np.nan
    np.savez(tmp_path / "nan.npz", samples=x)
    (tmp_path / "notes.txt").write_text("hello")
    large = tmp_path / "large"
    large.mkdir()
    Image.new("RGB", (32, 32)).save(large / "a.png")
    cases = [
        ((folder,), "belongs to no run; name the data with --data"),
        ((folder, arrays, "--x"), "No such option"),
        ((folder, "--data", "digitz"), "neither a data source nor a recipe; did you mean 'digits'?"),
        ((folder, "--data", "recipes/none.yaml"), "there is no recipe recipes/none.yaml"),
        (
            (folder, "--data", "digits", "--metrics", "frechett"),
            "no metric 'frechett'; did you mean 'frechet'?",
        ),
        ((folder, "--data", "digits", "--features", "randm"), "no features 'randm'; did you mean 'random'?"),
        ((folder, "train.steps=3", "--data", "digits"), "no setting 'train'"),
        ((folder, "--data", "digits", "--engine", "openvino"), "is no bundle, so it runs on no engine"),
        ((tmp_path / "empty", "--data", "digits"), "holds no images"),
        ((tmp_path / "pickled.npy", "--data", "digits"), "holds Python objects"),
        ((tmp_path / "wide.npy", "--data", "digits"), "shape (3, 8, 8), the data have (1, 8, 8)"),
        ((tmp_path / "nan.npz", "--data", "digits", *FAST), "1 generated samples hold NaN or infinity"),
        ((tmp_path / "missing.npz", "--data", "digits"), "missing.npz does not exist"),
        ((tmp_path / "missing", "--data", "digits"), "missing does not exist"),
        ((tmp_path / "notes.txt", "--data", "digits"), "holds no samples"),
        ((large, "--data", "digits"), "add --resize"),
        ((large, "--data", "digits", "--resize", *FAST), "at least 50 generated samples"),
    ]
    for words, sentence in cases:
        said = niwaki("evaluate", *words)
        assert said.status == 2, (words, said.err)
        assert said.out == ""
        line = said.err.strip().splitlines()[-1]
        assert line.startswith("niwaki: ")
        assert sentence in line, (words, line)
    said = niwaki("compare", folder, arrays, "--json")
    assert said.status == 2
    assert "belong to no run; name the data with --data" in said.json["error"]
