"""Models of no run on the command line: a factory with weights, a pipeline's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import outside
import pipelines
import pytest
import torch
from safetensors.torch import save_file

from niwaki.adapters import adapt
from niwaki.cli.main import status
from niwaki.core.contract import CallError
from niwaki.workflow.load import load
from niwaki.workflow.progress import Plain
from niwaki.workflow.subjects.external import is_factory

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def niwaki(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = status([str(w) for w in words])
        said = capsys.readouterr()
        return code, said.out, said.err.strip().splitlines()[-1] if said.err.strip() else ""

    return call


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    save_file(outside.OutsideDcgan().state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_samples_are_those_of_the_weights_in_the_file(niwaki: Call, weights: Path, tmp_path: Path) -> None:
    code, _, error = niwaki(
        "sample", "outside:make", "--weights", weights, "-n", 3, "--seed", 5, "--out", "s.npy"
    )
    assert code == 0, error
    torch.manual_seed(7)
    mine = adapt(outside.OutsideDcgan().eval(), latent=(20, 1, 1))
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), mine.sample(3, seed=5).numpy(), atol=1e-6)


def test_settings_of_adapt_are_overrides(niwaki: Call, tmp_path: Path) -> None:
    words = ("sample", "outside:ClassGenerator", "model.latent=8", "model.classes=5", "-c", 4, "-n", 2)
    words = (*words, "--weights", "random")
    code, _, error = niwaki(*words, "--out", "s.npz")
    assert code == 0, error
    assert np.load(tmp_path / "s.npz")["class"].tolist() == [4, 4]
    code, _, error = niwaki(
        "sample",
        "outside:make",
        "model.arguments.channels=1",
        "--weights",
        "random",
        "--out",
        "s.npy",
        "-n",
        2,
    )
    assert code == 0, error
    assert np.load(tmp_path / "s.npy").shape == (2, 1, 16, 16)


def test_export_writes_a_bundle(niwaki: Call, weights: Path, tmp_path: Path) -> None:
    code, out, error = niwaki("export", "outside:make", "--weights", weights, "--out", "m.niwaki", "--json")
    assert code == 0, error
    assert json.loads(out)["parity"]
    assert load(tmp_path / "m.niwaki").sample(2, seed=0).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "outsidr:make"], "'outsidr:make' cannot be imported"),
        (["sample", "outside:mak"], "'outside' has no 'mak'; did you mean 'make'?"),
        (["sample", "outside:not_a_module"], "returned int, not an nn.Module"),
        (["sample", "outside:make", "model.latnt=3"], "no setting 'model.latnt'; did you mean 'latent'?"),
        (["sample", "outside:ClassGenerator"], "say what shape the noise"),
        (
            ["sample", "outside:make", "model.latent=wide", "--weights", "random"],
            "model.latent=wide is not of its kind",
        ),
        (["sample", "outside:make", "--weights", "no.safetensors"], "no.safetensors does not exist"),
        (["sample", "outside:make", "--weights", "w.pt"], "w.pt is a pickle"),
        (["sample", "outside:make", "--weights", "short.safetensors"], "lacks the weights main.0.weight"),
        (["sample", "outside:make", "--weights", "other.safetensors"], "it has main.0.weight (1,), not"),
        (["compress", "outside:make"], "belongs to no run; name the data"),
        (
            ["compress", "outside:make", "--data", "digits", "train.steps=3"],
            "sections 'model', 'comp",
        ),
        (["compress", "outside:make", "--data", "digits", "--weights", "random"], "not (1, 8, 8)"),
        (["compress", "outside:make", "--data", "digts"], "neither a data source nor a recipe"),
        (["evaluate", "outside:make"], "belongs to no run; name the data"),
        (["evaluate", "outside:make", "--data", "digits", "--weights", "random"], "shape"),
        (["export", "nowhere", "--weights", "w.pt"], "--weights is for package.module:function"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    niwaki: Call, weights: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    torch.save({}, tmp_path / "w.pt")
    state: dict[str, Any] = outside.OutsideDcgan().state_dict()
    save_file({k: v for k, v in state.items() if k != "main.0.weight"}, tmp_path / "short.safetensors")
    save_file({**state, "main.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    code, out, error = niwaki(*words)
    assert code in (1, 2)
    assert out == ""
    assert error.startswith("niwaki: ")
    assert message in error


def test_a_pipelines_folder_is_sampled_and_exported_and_refused_where_it_must(
    niwaki: Call, tmp_path: Path
) -> None:
    pytest.importorskip("diffusers")
    pipelines.text_to_image(tmp_path / "words").save_pretrained(tmp_path / "folder")
    code, _, error = niwaki(
        "sample", "folder", "model.steps=2", "-c", "a three", "-c", "a two", "-n", 3, "--out", "s.npz"
    )
    assert code == 0, error
    asked = np.load(tmp_path / "s.npz")["prompt"]
    assert asked.shape == (3, pipelines.LENGTH)
    assert (asked[0] == asked[2]).all()
    assert (asked[0] != asked[1]).any()
    code, _, error = niwaki("sample", "folder", "--weights", "w.safetensors")
    assert (code, "has its weights inside" in error) == (2, True)
    lora = {
        f"unet.conv_in.lora_{m}.weight": torch.ones(s) for m, s in (("A", (1, 4, 3, 3)), ("B", (8, 1, 1, 1)))
    }
    save_file(lora, tmp_path / "lora.safetensors")
    words = ("sample", "folder", "model.steps=2", "-c", "a three", "-n", 1)
    for name, more in (
        ("plain", ()),
        ("none", ("--lora", "lora.safetensors:0")),
        ("some", ("--lora", "lora.safetensors", "--lora", "lora.safetensors:0.5")),
    ):
        code, _, error = niwaki(*words, *more, "--out", f"{name}.npz")
        assert code == 0, error
    plain, none, some = (np.load(tmp_path / f"{name}.npz")["x"] for name in ("plain", "none", "some"))
    assert (plain == none).all()
    assert (plain != some).any()
    code, _, error = niwaki("sample", "outside:make", "--weights", "random", "--lora", "lora.safetensors")
    assert "a module has no setting 'model.lora'" in error
    code, _, error = niwaki("export", "nowhere", "--lora", "lora.safetensors")
    assert "nowhere does not exist" in error
    code, _, error = niwaki("sample", "folder", "model.stepz=2")
    assert "a pipeline has no setting 'model.stepz'; did you mean 'steps'?" in error


PLAN = (
    "compress.steps=[{kind: prune, ratio: 0.5, round_to: 1, min_width: 2}, "
    "{kind: finetune, steps: 3, batch: 8}, {kind: quantize, calibration: 16}]",
    "compress.measure=false",
)


def judged(niwaki: Call, tmp_path: Path, what: tuple[object, ...], settings: tuple[object, ...]) -> Path:
    """Evaluated, compressed, exported, and what was made sampled again: the bundle's place."""
    data = ("--data", "digits")
    looks = ("--features", "random", "--metrics", "frechet", "evaluate.n=64")
    code, out, error = niwaki("evaluate", *what, *settings, *data, *looks, "--json")
    assert code == 0, error
    assert "frechet" in out
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plain, "_line", lambda self, text: lines.append(text))
        code, out, error = niwaki(
            "compress", *what, *settings, *data, *PLAN, "-n", 64, "--out", "small", "--json"
        )
    assert code == 0, error
    found = json.loads(out)
    assert [step["kind"] for step in found["steps"]] == ["prune", "finetune", "quantize"]
    assert found["measured"]["after"]["bytes"] < found["measured"]["before"]["bytes"]
    assert set(found["verdict"]) == {"fidelity", "diversity"}
    assert (tmp_path / found["report"]).is_file()
    # how long it takes is said before the work
    said = next(k for k, line in enumerate(lines) if "not known yet: features" in line)
    assert said < next(k for k, line in enumerate(lines) if line.startswith("evaluate: "))
    assert "compress: 2 of 3: finetune" in lines
    code, _, error = niwaki("export", *what, *settings, "--out", "whole.niwaki", "--json")
    assert code == 0, error
    assert load(tmp_path / "whole.niwaki").sample(2, seed=0).shape == (2, 1, 8, 8)
    code, _, error = niwaki("sample", tmp_path / found["bundle"], "-n", 3, "--seed", 1, "--out", "s.npy")
    assert code == 0, error
    assert np.isfinite(np.load(tmp_path / "s.npy")).all()
    return tmp_path / str(found["bundle"])


@pytest.mark.slow
def test_a_factory_is_evaluated_compressed_and_exported(niwaki: Call, tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_file(outside.tiny().state_dict(), tmp_path / "tiny.safetensors")
    bundle = judged(niwaki, tmp_path, ("outside:tiny", "--weights", "tiny.safetensors"), ())
    assert load(bundle).sample(2, seed=0).shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_a_pipelines_folder_is_evaluated_compressed_and_exported(niwaki: Call, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pipelines.ddim().save_pretrained(tmp_path / "folder")
    bundle = judged(niwaki, tmp_path, ("folder",), ("model.steps=2",))
    made = load(bundle).sample(2, seed=0)
    assert made.shape == (2, 1, 8, 8)


def test_what_is_a_factory() -> None:
    assert is_factory("nets:make")
    assert is_factory("my.nets.gan:make_it")
    for other in ("digits-gan", "runs/x", "C:\\x", "nets:", ":make", "a/b:c", "recipe.yaml"):
        assert not is_factory(other)
    with pytest.raises(CallError, match="does not exist"):
        load("runs/x")
