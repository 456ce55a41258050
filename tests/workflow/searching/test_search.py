"""The search of a small trained model, from its budget to the verdict; what is refused and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import niwaki_runtime
from niwaki.api.compress import compress
from niwaki.api.search import search
from niwaki.api.train import train
from niwaki.core.contract import CallError
from niwaki.core.store import read_json
from niwaki.models.io import load_model
from niwaki.recipe import recipe_from
from niwaki.workflow.run_directory import is_run

RECIPE: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits"},
    "model": {"name": "vae", "width": 16, "latent": 8},
    "train": {"steps": 250, "batch": 64, "lr": 2e-3},
    "evaluate": {"features": ["random"], "n": 1000},
    "export": {"repeats": 3, "memory": False},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe_from(RECIPE), out=tmp_path_factory.mktemp("search") / "run").path


@pytest.mark.slow
def test_a_budget_becomes_a_bundle_with_a_verdict_and_a_plan_that_reproduces_it(trained: Path) -> None:
    found = search(trained, budget="size=/3", time=120, sizes=2)
    assert found.chosen is not None, found.refusal
    assert [member["size"] for member in found.sizes] == ["medium"]
    medium = found.sizes[0]
    assert medium["limits"]["size"] == pytest.approx(2 * found.limits["size"])
    assert niwaki_runtime.load(medium["bundle"]).sample(4, seed=0).shape == (4, 1, 8, 8)
    assert found.meets
    assert set(found.verdict) == {"fidelity", "diversity"}
    bundle = Path(found.bundle or "")
    assert bundle.stat().st_size <= found.limits["size"]
    assert niwaki_runtime.load(bundle).sample(4, seed=0).shape == (4, 1, 8, 8)
    result = Path(found.run)
    assert is_run(result)
    assert read_json(result / "search.json")["chosen"] == found.chosen
    assert Path(found.report or "").is_file()
    plan = yaml.safe_load((result / "plan.yaml").read_text())["compress"]
    assert plan["steps"] == found.plan

    again = search(trained, budget="size=/3", time=60)  # known by now, so no candidate is trained again
    assert again.chosen == found.chosen
    assert again.spent < found.spent

    refused = search(trained, budget="size=1kB", time=45)
    assert refused.chosen is None
    assert "size" in refused.refusal["text"]
    assert bundle.is_file()  # what was there is not lost
    kept = yaml.safe_load((result / "recipe.yaml").read_text())["compress"]["steps"]
    assert [step["kind"] for step in kept] == [step["kind"] for step in found.plan]


@pytest.mark.slow
def test_the_plan_reproduces_the_bundle(trained: Path, tmp_path: Path) -> None:
    found = search(trained, budget="size=/3", time=90)
    plan = yaml.safe_load((Path(found.run) / "plan.yaml").read_text())["compress"]
    made = compress(
        load_model(trained / "model"), data=RECIPE["data"], plan=plan["steps"], out=tmp_path / "out",
        n=500, features=["random"], rounds=1,
    )  # fmt: skip
    size = Path(found.bundle or "").stat().st_size
    assert Path(made["bundle"]).stat().st_size == pytest.approx(size, rel=0.02)


def test_a_plan_of_a_file_is_carried_out_by_a_run(trained: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "compress:\n  measure: false\n  steps:\n  - {kind: quantize, bits: 4}\n  - {kind: pack}\n"
    )
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    made = compress(run, plan=plan)
    assert [step["kind"] for step in made["steps"]] == ["quantize", "pack"]
    assert yaml.safe_load((run / "recipe.yaml").read_text())["compress"]["steps"][0]["bits"] == 4
    plan.write_text("steps: [{kind: quantise}]")
    with pytest.raises(CallError, match=r"plan\.yaml.*quantise"):
        compress(run, plan=plan)
    plan.write_text("model: {name: vae}")
    with pytest.raises(CallError, match="holds no plan"):
        compress(run, plan=plan)


@pytest.mark.parametrize(
    ("budget", "time", "said"), [("sise=3kB", "5m", "cannot limit"), ("size=3kB", "soon", "no span of time")]
)
def test_wrong_calls_are_refused_before_anything_is_read(budget: str, time: str, said: str) -> None:
    with pytest.raises(CallError, match=said):
        search("runs/nowhere", budget=budget, time=time)
