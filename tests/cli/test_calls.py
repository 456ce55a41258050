"""Good and bad calls: statuses, one line on stderr, one object on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niwaki.cli.main import VERBS
from niwaki.core.store import read_json


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)])
def test_help_has_an_example_and_imports_nothing_heavy(fresh, words) -> None:
    code = (
        "import sys; from niwaki.cli.main import status; code = status(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'openvino', 'sklearn', 'matplotlib'} & set(sys.modules);"
        "print('heavy:', sorted(heavy)); sys.exit(code)"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout
    if words:
        assert f"niwaki {words[0]}" in done.stdout.split("Example:")[1]
    else:
        assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "there is no verb 'trian'; did you mean 'train'?"),
        (["bench"], "there is no verb 'bench'"),
        (["train"], "`niwaki train --help` shows how"),
        (["train", "digits-gan", "--rezume"], "No such option: --rezume"),
        (["train", "digitz-gan"], "there is no recipe 'digitz-gan'; did you mean 'digits-gan'?"),
        (["train", "digits-gan", "train.stepz=3"], "no setting 'train.stepz'; did you mean 'steps'?"),
        (["train", "digits-gan", "steps"], "'steps' is not an override; write section.key=value"),
        (["run", "missing/recipe.yaml"], "there is no recipe missing/recipe.yaml"),
        (["sample", "nowhere"], "nowhere does not exist"),
        (["sample", "nowhere", "-n", "many"], "-n"),
        (["sample", "nowhere", "-n", "0"], "-n must be at least 1, not 0"),
        (["evaluate", "nowhere"], "there is no recipe 'nowhere'"),
        (["compress", "digits-gan", "compress=null"], "has no 'compress' section"),
        (["report", "nowhere"], "nowhere is not a run directory"),
        (["doctor", "digits-gam"], "did you mean 'digits-gan'?"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line_and_status_2(
    niwaki, words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = niwaki(*words)
    assert said.status == 2
    assert said.out == ""
    line = said.err.strip().splitlines()[-1]
    assert line.startswith("niwaki: ")
    assert sentence in line
    assert "Traceback" not in said.err


def test_under_json_an_error_is_an_object_too(niwaki) -> None:
    said = niwaki("train", "digitz-gan", "--json")
    assert said.json == {
        "error": "there is no recipe 'digitz-gan'; did you mean 'digits-gan'?",
        "status": 2,
    }


def test_the_exit_status_reaches_the_shell(fresh, tmp_path: Path) -> None:
    assert fresh("trian").status == 2
    bundle = tmp_path / "broken.niwaki"
    bundle.write_bytes(b"PK\x03\x04 half a zip")
    said = fresh("sample", bundle)
    assert said.status == 1
    assert said.err.strip().splitlines()[-1].startswith(f"niwaki: {bundle} is a broken zip")
    assert "Traceback" not in said.err
    assert fresh("--version").out.startswith("niwaki ")


def test_a_defect_is_told_in_one_line_and_in_full_when_debugging(
    niwaki, monkeypatch: pytest.MonkeyPatch
) -> None:
    import niwaki.workflow.catalogue as legs

    kept = legs.catalogue

    def broken() -> None:
        raise KeyError("surprise")

    monkeypatch.setitem(vars(legs), "catalogue", broken)
    monkeypatch.delenv("NIWAKI_DEBUG", raising=False)
    said = niwaki("models")
    assert said.status == 1
    assert "an error in code that niwaki called" in said.err
    assert "surprise" in said.err
    assert f"{__file__}:" in said.err, "the place is this test's, so it is no defect of niwaki"
    monkeypatch.setitem(vars(legs), "catalogue", kept)
    with monkeypatch.context() as patch:
        patch.setitem(vars(legs), "presets", None)
        said = niwaki("models")
    assert "a defect of niwaki, please report it" in said.err
    assert "catalogue.py:" in said.err
    monkeypatch.setenv("NIWAKI_DEBUG", "1")
    monkeypatch.setitem(vars(legs), "catalogue", broken)
    with pytest.raises(KeyError):
        niwaki("models")


def test_train_says_what_it_did_and_again_does_nothing(niwaki, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = niwaki("train", recipe, "--out", out, "train.steps=4", "--json")
    assert said.status == 0, said.err
    assert said.json["steps"] == 4
    weights = (out / "model" / "model.safetensors").read_bytes()
    finished = read_json(out / "stages" / "train.json")["finished"]
    assert niwaki("train", out, "--json").json["steps"] == 4
    assert read_json(out / "stages" / "train.json")["finished"] == finished, "nothing was left to do"
    again = niwaki("train", out, "--fresh", "--json")
    assert again.status == 0
    assert (out / "model" / "model.safetensors").read_bytes() == weights, "the same recipe, the same weights"
    said = niwaki("train", out, "train.steps=5")
    assert said.status == 2
    assert "holds a finished training of 4 steps, and the recipe now asks for 5; add --resume" in said.err
    said = niwaki("train", out, "train.steps=5", "--resume")
    assert said.status == 0
    assert "5 steps" in said.out
    assert read_json(out / "stages" / "train.json")["made_from"]["train"]["steps"] == 5
    said = niwaki("train", recipe, "--out", tmp_path / "new", "--resume")
    assert said.status == 2
    assert "holds no checkpoint to resume from" in said.err


def test_sample_writes_pictures_and_arrays(niwaki, trained: Path, tmp_path: Path) -> None:
    png, npz = tmp_path / "s.png", tmp_path / "s.npz"
    said = niwaki("sample", trained, "-n", 20, "--seed", 3, "-c", 7, "-o", png, "-o", npz, "--json")
    assert said.status == 0, said.err
    with Image.open(png) as picture:
        assert picture.mode == "L"
        assert picture.width > 10 * 8
    with np.load(npz, allow_pickle=False) as arrays:
        x, classes = arrays["x"], arrays["class"]
    assert x.shape == (20, 1, 8, 8)
    assert x.dtype == np.float32
    assert (classes == 7).all()
    # sample i of a seed is the same wherever the counting starts
    assert niwaki("sample", trained, "-n", 5, "--start", 10, "--seed", 3, "-c", 7, "-o", npz).status == 0
    with np.load(npz, allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["x"], x[10:15], atol=1e-6)
    assert niwaki("sample", trained, "-n", 4, "-c", 1, "-c", 2, "-o", npz).status == 0
    with np.load(npz, allow_pickle=False) as arrays:
        assert arrays["class"].tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-c", "11"], "there is no class '11'; did you mean '1'?"),
        (["-c", "cat"], "there is no class 'cat'"),
        (["-c", "font=1"], "this model has no condition 'font'"),
        (["steps=3"], "has no option 'steps'"),
        (["-o", "x.tiff"], "samples are written as .png, .npz, .npy, not as 'x.tiff'"),
        (["--engine", "openvino"], "is no bundle, so it runs on no engine"),
    ],
)
def test_what_a_model_cannot_do_is_said(
    niwaki, trained: Path, words: list[str], sentence: str, tmp_path: Path
) -> None:
    said = niwaki("sample", trained, "-n", 2, "-o", tmp_path / "s.png", *words)
    assert said.status == 2
    assert sentence in said.err
    assert not (tmp_path / "s.png").exists()


def test_models_and_doctor_answer_in_json(niwaki) -> None:
    models = {m["name"]: m for m in niwaki("models", "--json").json["models"]}
    assert {"dcgan", "vae", "ddpm"} <= models.keys()
    assert models["dcgan"]["conditions"] == ["class"]
    assert models["vae"]["programs"] == ["sample", "encode", "decode", "log_prob", "codec"]
    assert models["dcgan"]["programs"] == ["sample"]
    assert all(m["summary"] for m in models.values())
    found = niwaki("doctor", "digits-gan", "--json").json
    assert {"torch", "niwaki"} <= found["versions"].keys()
    assert sum(found["data"]["figures"]["samples"].values()) == 1797
    assert isinstance(found["hardware"]["bf16"], bool)
    assert "openvino" in found["engines"]
    assert "nothing to worry about" in niwaki("doctor").out


def test_stdout_holds_nothing_but_the_answer(fresh, trained: Path, tmp_path: Path) -> None:
    said = fresh("sample", trained, "-n", "2", "-o", str(tmp_path / "s.png"), "--json")
    assert json.loads(said.out)["n"] == 2
    assert said.out.count("\n") == 1
    assert "sample" in said.err, "progress goes to stderr"


def test_broken_runs_are_one_sentence(niwaki, trained: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    said = niwaki("sample", run, "-o", tmp_path / "s.png")
    assert said.status == 1
    assert "is not a whole safetensors file" in said.err
    (run / "run.json").write_text("{")
    said = niwaki("sample", run, "-o", tmp_path / "s.png")
    assert said.status == 1
    assert "is not readable JSON" in said.err


def test_a_table_in_a_pipe_holds_a_row_on_one_line(niwaki) -> None:
    said = niwaki("models").out.splitlines()
    for model in niwaki("models", "--json").json["models"]:
        (row,) = [line for line in said if line.split()[:1] == [model["name"]]]
        assert model["summary"] in row


def test_help_names_the_samplers_options_and_where_samples_go(niwaki) -> None:
    said = " ".join(niwaki("sample", "--help").out.replace("│", " ").split())
    assert "temperature=0.8" in said
    assert "in the working directory" in said


def test_runs_are_listed_with_what_is_due(niwaki, trained):
    said = niwaki("runs", trained)
    assert said.status == 0
    assert "dcgan" in said.out
    assert "next: evaluate" in said.out
    (line,) = niwaki("runs", trained, "--json").json["runs"]
    assert line["steps"] == 6
    assert niwaki("runs", trained / "nowhere").status == 2
