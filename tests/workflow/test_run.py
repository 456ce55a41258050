"""The whole way on real digits, small: what it leaves, what a second call does again, and how a stopped one
goes on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import niwaki_runtime
from niwaki.api.compare import compare
from niwaki.api.evaluate import evaluate
from niwaki.api.export import export
from niwaki.api.run import run
from niwaki.api.train import train
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json
from niwaki.recipe import load_recipe, recipe_from
from niwaki.training import Interrupted
from niwaki.workflow.load import load
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.run_directory import STAGES, RunDirectory
from niwaki.workflow.summary import summary

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 16, "features": 16, "latent": 8},
    "train": {"steps": 8, "batch": 32, "log_every": 2, "checkpoint_every": 4, "ema": 0.5},
    "evaluate": {"features": ["random"]},
    "compress": {
        "steps": [{"kind": "prune", "ratio": 0.5}],
        "measure": False,
    },
    "export": {"repeats": 1, "memory": False},
}


class Heard(Quiet):
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        assert 0 <= done <= total

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(recipe_from(TINY), out=tmp_path_factory.mktemp("finished") / "tiny").path


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(finished, tmp_path / "tiny")
    return tmp_path / "tiny"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz", allow_pickle=False) as kept:
        return dict(kept)


def redone(path: Path, *overrides: str, **how: bool) -> tuple[list[str], Heard]:
    """Which stages a call with overrides does again."""
    before = {stage: RunDirectory.open(path).stage(stage) for stage in STAGES}
    heard = Heard()
    run(path, overrides, reporter=heard, **how)
    after = RunDirectory.open(path)
    assert all(after.stage(stage)["status"] == "done" for stage in STAGES)
    return [stage for stage in STAGES if after.stage(stage) != before[stage]], heard


def test_the_run_directory_holds_everything(finished: Path) -> None:
    for name in ("recipe.yaml", "run.json", "metrics.jsonl", "checkpoints", "evidence/samples.npz",
                 "model/model.safetensors", "evaluation.json", "compression.json", "export.json",
                 "verdict.json", "verdict/samples.npz",
                 "compressed/model.safetensors", "tiny.niwaki", "tiny-float32.niwaki",
                 "report.html"):  # fmt: skip
        assert (finished / name).exists(), name
    states = {stage: read_json(finished / "stages" / f"{stage}.json") for stage in STAGES}
    assert all(state["status"] == "done" and state["seconds"] >= 0 for state in states.values())
    assert len(read_json(finished / "data.json")["fingerprint"]) == 64
    assert load_recipe(finished / "recipe.yaml") == recipe_from(TINY)
    assert not list(finished.rglob("*.pt"))
    assert not list(finished.rglob("*.pkl"))


def test_the_judged_pairs_are_the_models_and_the_bundles_own_samples(finished: Path) -> None:
    model, bundle = load(finished), load(finished / "tiny.niwaki", engine="openvino")
    kept, judged = arrays(finished / "evidence"), arrays(finished / "verdict")
    before, after, labels = kept["samples"], judged["samples"], kept["labels"]
    ask = {"class": labels[:9]}
    seed = read_json(finished / "evaluation.json")["seed"]
    np.testing.assert_allclose(model.sample(9, seed=seed, condition=ask).numpy(), before[:9], atol=1e-5)
    np.testing.assert_allclose(bundle.sample(9, seed=seed, condition=ask), after[:9], atol=0.1)
    assert not np.allclose(before, after), "the bundle is another network"
    assert len(labels) == len(before) == len(after)


def test_the_margins_of_the_verdict_were_fixed_before_it(finished: Path) -> None:
    kept, verdict = read_json(finished / "evaluation.json"), read_json(finished / "verdict.json")
    margins = kept["margins"]["samples"]
    assert verdict["comparison"]["calibration"]["key"] == margins["key"]
    for axis in ("fidelity", "diversity"):
        found = verdict["verdict"][axis]
        known = margins["axes"][axis]
        assert (found["margin"], found["margin_noise"]) == (known["value"], known["noise"])


def test_the_bundle_states_its_own_size_verdict_and_origin(finished: Path) -> None:
    manifest = niwaki_runtime.inspect(finished / "tiny.niwaki")
    size = (finished / "tiny.niwaki").stat().st_size
    assert manifest.measured["latency"].keys() == {"1", "16"}
    assert read_json(finished / "verdict.json")["bytes"] == size
    told = summary(RunDirectory.open(finished))
    assert told["measured"]["after"]["bytes"] == size
    assert told["fitness"]["random"].keys() == {"fit", "text"}
    unfit = told["fitness"]["random"]["fit"] is False
    assert bool(told["unfit"]) == unfit == bool(told["verdict"]["fidelity"]["unfit"])
    assert size < (finished / "tiny-float32.niwaki").stat().st_size
    assert {"fidelity", "diversity"} <= manifest.verdict.keys()
    assert manifest.provenance["data"] == read_json(finished / "data.json")["fingerprint"]
    assert recipe_from(manifest.provenance["recipe"]) == recipe_from(TINY)
    assert str(finished.parent) not in str(manifest.to_json()), "no path of this machine travels along"


def test_the_uncompressed_bundle_computes_what_torch_does(finished: Path) -> None:
    model = load(finished).sample(5, seed=4).numpy()
    for engine in ("openvino", "onnxruntime"):
        bundle = niwaki_runtime.load(finished / "tiny-float32.niwaki", engine=engine, precision="exact")
        np.testing.assert_allclose(bundle.sample(5, seed=4), model, atol=1e-4)


def test_a_second_call_does_nothing_and_says_so(again: Path) -> None:
    stages, heard = redone(again)
    assert stages == []
    assert heard.stages == [], "not even the data are read"
    assert heard.notes == [f"everything in {again} is done and up to date"]


def test_a_model_whose_code_was_changed_is_told_and_kept(
    again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("niwaki.api.run.code_of", lambda recipe: "another")
    stages, heard = redone(again)
    assert stages == []
    assert "the code of the model 'dcgan' is not what it was trained with" in heard.notes[0]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["export.repeats=2"], ["export", "verdict", "report"]),
        (["evaluate.seed=9"], ["evaluate", "verdict", "report"]),
        pytest.param(
            ["compress.steps.0.ratio=0.3"],
            ["compress", "export", "verdict", "report"],
            marks=pytest.mark.slow,  # the next but one does all of these again
        ),
        (["train.log_every=3", "train.keep=5"], []),
        pytest.param(["train.steps=9", "--resume"], list(STAGES), marks=pytest.mark.slow),
    ],
)
def test_only_what_depends_on_a_change_is_done_again(
    again: Path, overrides: list[str], expected: list[str]
) -> None:
    resume = "--resume" in overrides
    stages, heard = redone(again, *(text for text in overrides if text != "--resume"), resume=resume)
    assert stages == expected
    if "train" in expected:
        assert any("8 of 8 steps are done, and there are 9 now" in note for note in heard.notes)


@pytest.mark.slow
def test_another_way_of_sampling_needs_no_training(again: Path) -> None:
    files = ("model/model.safetensors", "training.json", "metrics.jsonl")
    before = [(again / name).read_bytes() for name in files]
    stages, heard = redone(again, "model.sampling.temperature=0.5", "compress=null")
    assert stages == list(STAGES), "what was drawn otherwise is judged anew"
    assert [(again / name).read_bytes() for name in files] == before
    assert "only model.sampling changed: the weights stay as they are" in heard.notes
    assert niwaki_runtime.inspect(again / "tiny.niwaki").programs["sample"].sampler.temperature == 0.5
    with pytest.raises(CallError, match=r"holds a finished training, and model\.width was 16 and is 4"):
        redone(again, "model.sampling.temperature=0.5", "model.width=4", "compress=null")


@pytest.mark.slow
def test_every_kind_of_step_goes_the_whole_way(again: Path) -> None:
    steps = "{kind: prune}, {kind: finetune, steps: 3, batch: 16}, {kind: quantize, calibration: 16}"
    plan = f"compress.steps=[{steps}]"
    assert redone(again, plan)[0] == ["compress", "export", "verdict", "report"]
    steps = read_json(again / "compression.json")["steps"]
    assert [step["kind"] for step in steps] == ["prune", "finetune", "quantize"]
    assert niwaki_runtime.inspect(again / "tiny.niwaki").graphs["generator"].quantized["quantized"] > 0


@pytest.mark.slow
def test_what_was_deleted_is_made_again(again: Path) -> None:
    (again / "report.html").unlink()
    assert redone(again)[0] == ["report"]
    (again / "tiny.niwaki").unlink()
    assert redone(again)[0] == ["export", "verdict", "report"]


@pytest.mark.slow
def test_without_a_plan_the_float_model_is_the_bundle(again: Path) -> None:
    stages, _ = redone(again, "compress=null")
    assert stages == ["export", "verdict", "report"]
    before, after = arrays(again / "evidence")["samples"], arrays(again / "verdict")["samples"]
    np.testing.assert_allclose(after, before, atol=0.05)
    outcome = summary(RunDirectory.open(again))["verdict"]
    assert all(v["outcome"] != "loss" for v in outcome.values())


@pytest.mark.slow
def test_a_memory_limit_takes_figures_and_verdict_on_an_engine_that_fits(again: Path) -> None:
    stages, _ = redone(again, "export.engine=auto", "export.memory_limit=32MB")
    assert stages == ["export", "verdict", "report"]
    assert read_json(again / "verdict.json")["engine"] == "onnxruntime"
    assert read_json(again / "export.json")["measured"]["after"]["engine"] == "onnxruntime"
    bundle = again / "tiny.niwaki"
    few: dict[str, Any] = {"n": 64, "metrics": ["frechet"]}
    assert evaluate(bundle, memory="32MB", **few)["engine"] == "onnxruntime"
    assert evaluate(bundle, memory="1GB", **few)["engine"] == "openvino"
    sides = compare(bundle, again, memory="32MB", **few)["sources"]
    assert [sides[side]["engine"] for side in ("before", "after")] == ["onnxruntime", None]
    with pytest.raises(NiwakiError, match="give more, or prune and quantize it further"):
        evaluate(bundle, memory="1kB", **few)


def test_a_bundle_is_evaluated_with_the_recipe_of_its_run(finished: Path, tmp_path: Path) -> None:
    inside = evaluate(finished / "tiny.niwaki", engine="openvino")
    kept = read_json(finished / "verdict.json")["bundle"]
    assert inside["bundle"].keys() == kept.keys()
    shutil.copy(finished / "tiny.niwaki", tmp_path / "alone.niwaki")
    with pytest.raises(CallError, match="--data"):
        evaluate(tmp_path / "alone.niwaki")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    outside = evaluate(tmp_path / "alone.niwaki", recipe=tmp_path / "tiny.yaml", engine="openvino")
    assert outside["bundle"] == inside["bundle"]


def test_a_saved_model_is_exported(finished: Path, tmp_path: Path) -> None:
    found = export(finished / "compressed", out=tmp_path / "own.niwaki")
    assert found["bytes"] == (tmp_path / "own.niwaki").stat().st_size
    assert max(found["parity"].values()) < 1e-4


def test_a_stopped_training_goes_on_to_the_same_weights(finished: Path, tmp_path: Path) -> None:
    class Stopping(Heard):
        def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
            if self.stages[-1] == "train" and not self.notes:
                self.note("stop")
                os.kill(os.getpid(), signal.SIGINT)

    recipe = recipe_from(TINY)
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "tiny", reporter=Stopping())
    with pytest.raises(CallError, match="add --resume to go on or --fresh to begin again"):
        train(recipe, out=tmp_path / "tiny")
    train(recipe, out=tmp_path / "tiny", resume=True)
    weights = Path("model/model.safetensors")
    assert (tmp_path / "tiny" / weights).read_bytes() == (finished / weights).read_bytes()


def test_unlabelled_arrays_go_the_whole_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (300, 8, 8), dtype=np.uint8))
    recipe = recipe_from(
        {
            **TINY,
            "name": "plain",
            "data": {"source": "arrays", "path": str(tmp_path / "x.npy")},
            "evaluate": {"features": ["classifier", "random"]},
            "compress": None,
        }
    )
    heard = Heard()
    made = run(recipe, out=tmp_path / "plain", reporter=heard)
    assert "the data have no labels, so no classifier looks at the samples" in heard.notes
    assert summary(made)["verdict"].keys() == {"fidelity", "diversity"}


@pytest.mark.slow
def test_a_judge_of_a_program_that_is_not_shipped_is_left_out_of_the_verdict(tmp_path: Path) -> None:
    model = {"name": "realnvp", "layers": 2, "width": 16}
    recipe = recipe_from({**TINY, "name": "flow", "model": model, "compress": None})
    heard = Heard()
    made = run(recipe, out=tmp_path / "flow", reporter=heard)
    assert "likelihood" in read_json(made.path / "evaluation.json")["evidence"]
    verdicts = read_json(made.path / "verdict.json")["verdicts"]
    assert "export.programs" in verdicts["likelihood"]["left_out"]
    assert verdicts["samples"]["axes"]
    assert any("has nothing to judge of the bundle" in note for note in heard.notes)
    assert (made.path / "report.html").is_file()
