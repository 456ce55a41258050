"""What the comparison of steps, plans and peers rests on: plans that can be carried out, records, figures."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression_rows import rows as rows_module
from compression_rows.artefact import Artefact, NumpyRunner, opened, way_of
from compression_rows.markdown import markdown
from compression_rows.plans import BEST, plans
from compression_rows.rows import Row, carried_out, crashed, kept, rows, slug
from compression_rows.subject import Subject
from compression_rows.table import table
from compression_rows.tokens import distinct, paired_verdict
from rich.console import Console

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError
from niwaki.data import DataConfig, load
from niwaki.models.registry import build

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def digits() -> Any:
    return load(DataConfig(source="digits"))


def subject_of(name: str, config: dict[str, Any], digits: Any, tmp_path: Path) -> Subject:
    torch.manual_seed(0)
    model = build(name, config, digits.spec).eval()
    return Subject(f"digits-{name}", model, digits, tmp_path, tmp_path / "cache", 60, 8, 8, quick=True)


@pytest.fixture
def gan(digits: Any, tmp_path: Path) -> Subject:
    return subject_of("dcgan", {"latent": 8, "width": 16, "max_width": 16, "features": 16}, digits, tmp_path)


@pytest.fixture
def ddpm(digits: Any, tmp_path: Path) -> Subject:
    config = {"widths": [16, 16], "blocks": 1, "attention": [4], "heads": 2, "steps": 2}
    return subject_of("ddpm", config, digits, tmp_path)


def test_every_plan_is_one_that_compress_takes(gan: Subject, ddpm: Subject) -> None:
    for subject in (gan, ddpm):
        found = plans(subject)
        assert len({p.name for p in found}) == len(found)
        assert found[-1].name == BEST
        for plan in found:
            CompressConfig.model_validate({"steps": list(plan.steps)})  # refuses an impossible order


def test_plans_of_one_stem_begin_alike_and_grow(gan: Subject, ddpm: Subject) -> None:
    """Their steps are found again by hash: all but the last of a plan, which costs little, is used again."""
    for subject, stem, count in ((gan, "main", 5), (gan, "four", 2), (ddpm, "main", 2), (ddpm, "few", 2)):
        shared = [list(p.steps) for p in plans(subject) if p.stem == stem]
        assert len(shared) == count
        for shorter, longer in itertools.pairwise(shared):
            assert longer[: len(shorter) - 1] == shorter[:-1]
            assert longer[: len(shorter)] == shorter or shorter[-1]["kind"] == "quantize"
            assert len(longer) > len(shorter)


def test_only_diffusion_has_fewer_steps(gan: Subject, ddpm: Subject) -> None:
    asked = [[s for p in plans(subject) for s in p.steps] for subject in (gan, ddpm)]
    fewer, matched = (
        [any(key in s for s in steps) for steps in asked] for key in ("evaluations", "temperature")
    )
    assert fewer == [False, True]
    assert matched == [True, False]


def test_rows_have_names_and_files_of_their_own(gan: Subject) -> None:
    found = rows(gan)
    assert len({slug(r.name) for r in found}) == len(found)
    assert [r.group for r in found] == sorted(
        (r.group for r in found), key=["baseline", "plan", "peer"].index
    )


def test_a_failing_row_is_recorded_with_its_reason_and_not_tried_again(gan: Subject) -> None:
    def make(subject: Subject, directory: Path) -> Any:
        raise ValueError("cannot\nbe done")

    row = Row("broken peer", "peer", make, [1])
    assert kept(gan, row) is None
    assert carried_out(gan, row, 1)["failure"] == "ValueError: cannot"
    found = kept(gan, row)
    assert found is not None
    assert found["failure"] == "ValueError: cannot"
    assert kept(gan, dataclasses.replace(row, settings=[2])) is None


def test_a_row_of_other_weights_is_made_anew(gan: Subject, digits: Any, tmp_path: Path) -> None:
    row = Row("peer", "peer", lambda subject, directory: None, None)  # type: ignore[arg-type,return-value]
    crashed(gan, row, -11)
    assert kept(gan, row)["failure"].endswith("signal 11")  # type: ignore[index]
    other = subject_of("dcgan", {"latent": 8, "width": 24, "max_width": 24, "features": 16}, digits, tmp_path)
    assert kept(other, row) is None


def test_the_float_bundle_samples_what_the_model_does_for_every_kind_of_artefact(gan: Subject) -> None:
    bundle = Artefact("bundle", str(gan.bundle), "onnxruntime")
    files = {name: path.name for name, path in gan.graphs.items()}
    folder = str(next(iter(gan.graphs.values())).parent)
    graphs = Artefact("graphs", folder, "onnxruntime", files, sampling=str(gan.bundle))
    wanted = gan.model.sample(3, seed=5).numpy()
    for artefact in (bundle, graphs):
        assert np.abs(opened(artefact, 1).sample(3, seed=5) - wanted).max() < 1e-4
    eager = Artefact("torch", str(gan.saved), "eager", sampling=str(gan.bundle))
    assert np.abs(way_of(eager, 1, seed=5)(3).numpy() - wanted).max() < 1e-6
    assert eager.bytes() is None
    assert bundle.bytes() == gan.bundle.stat().st_size
    assert graphs.bytes() == sum(p.stat().st_size for p in Path(folder).iterdir())


def test_artefacts_survive_json() -> None:
    artefact = Artefact("graphs", "a", "openvino", {"g": "g.xml"}, "b")
    assert Artefact(**artefact.to_json()) == artefact


def test_a_runner_gives_arrays_and_never_lets_its_inputs_be_kept() -> None:
    held = []

    def call(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        held.append(x)
        return x.bfloat16(), x.long()

    x = np.ones(2, np.float32)
    first, second = NumpyRunner(call, ())(x)
    assert (first.dtype, second.dtype) == (np.float32, np.int64)
    x[:] = 7
    assert held[0].tolist() == [1.0, 1.0]


def test_distinct_ngrams_against_a_slow_count() -> None:
    tokens = np.random.default_rng(0).integers(0, 3, (5, 20))
    grams = [tuple(row[i : i + 4]) for row in tokens for i in range(17)]
    assert distinct(tokens, 4) == len(set(grams)) / len(grams)
    assert distinct(np.zeros((2, 10), int), 4) == 1 / 14
    assert distinct(np.arange(12)[None], 4) == 1.0
    with pytest.raises(CallError, match="n-grams of 4"):
        distinct(np.zeros((2, 3), int), 4)


@pytest.mark.parametrize(
    "loss, outcome",
    [([0.0, 0.001, -0.001] * 5, "no loss"), ([0.5, 0.51, 0.49] * 5, "loss"), ([-1.0, 1.2], "inconclusive")],
)
def test_verdict_of_paired_losses(loss: list[float], outcome: str) -> None:
    found = paired_verdict(np.array(loss), before=2.0, axis="fidelity")
    assert found["outcome"] == outcome
    assert found["margin"] == pytest.approx(0.02)
    low, high = found["interval"]
    assert low <= found["delta"] <= high


def test_table_has_ratios_of_the_same_run_and_says_what_failed() -> None:
    def row(name: str, group: str, ms: float, **more: Any) -> dict[str, Any]:
        time = {"median_ms": ms, "low_ms": ms, "high_ms": ms, "runs": 3}
        latency = {"1": time, "16": time}
        return {"name": name, "group": group, "latency": latency, "bytes": 1000, "quality": {}, **more}

    verdict = {"fidelity": {"outcome": "no loss"}, "diversity": {"outcome": "loss"}}
    records = [
        row(rows_module.EAGER, "baseline", 8.0, bytes=4000),
        row(rows_module.COMPILED, "baseline", 4.0),
        row("mine", "plan", 2.0, quality={"verdict": verdict, "frechet": {"value": 1.5, "interval": None}}),
        {"name": "theirs", "group": "peer", "failure": "it crashed"},
    ]
    shown = Console(width=250)
    found = {"model": "m", "n": 1, "seed": 0, "rounds": 3, "rows": records}
    with shown.capture() as captured:
        shown.print(table(found))
    lines = {part.split("│")[1].strip(): part for part in captured.get().splitlines() if "│" in part}
    assert "4.0 (2.0)" in lines["mine"]
    assert "(4.0×)" in lines["mine"]
    assert "LOSS" in lines["mine"]
    assert "failed: it crashed" in lines["theirs"]


def test_the_page_has_a_line_per_row_and_leaves_out_what_was_not_measured() -> None:
    verdict = {
        "fidelity": {"outcome": "no loss", "delta": -0.5, "interval": [-0.75, -0.25], "margin": 0.125},
        "diversity": {"outcome": "loss", "delta": 0.5, "interval": [0.25, 0.75], "margin": 0.25},
    }
    time = {"median_ms": 2.0, "low_ms": 1.0, "high_ms": 3.0, "runs": 3}
    mine = {"name": BEST, "group": "plan", "bytes": 1000, "quality": {"verdict": verdict}}
    records: list[dict[str, Any]] = [
        {"name": rows_module.EAGER, "group": "baseline", "bytes": 4000, "quality": {}},
        mine,
        {"name": "theirs", "group": "peer", "failure": "it crashed"},
    ]
    found = {"model": "m", "n": 1, "seed": 0, "rows": records}
    untimed = markdown(found).splitlines()
    assert untimed[0].endswith("margins: fidelity 0.1250, diversity 0.2500.")
    assert (
        "| **best hand-written plan** | 1 000 (4.0 ×) | no loss: −0.5000 (−0.7500 … −0.2500) |" in untimed[5]
    )
    assert "**loss**: 0.5000" in untimed[5]
    mine |= {"latency": {"1": time, "16": time}, "memory_bytes": None}
    slow = {"median_ms": 1450.4, "low_ms": 999.0, "high_ms": 1600.0, "runs": 3}
    records[0] |= {"latency": {"1": {**time, "median_ms": 8.0}, "16": slow}, "memory_bytes": 10**7}
    timed = markdown(found).splitlines()
    assert {line.count("|") for line in timed[2:]} == {10}  # every row is as wide as the head
    assert "2 (1–3) | 4.0 | 2 (1–3) | 725.2 | – |" in timed[5]
    assert "1450 (999–1600)" in timed[4]
    assert "fails: it crashed" in timed[6]
