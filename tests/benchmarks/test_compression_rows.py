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
from compression_rows.quality import judged
from compression_rows.rows import Row, carried_out, crashed, kept, rows, slug
from compression_rows.subject import Subject
from compression_rows.table import table
from rich.console import Console

from niwaki.compression import CompressConfig
from niwaki.core.contract import DataSpec
from niwaki.data import DataConfig, Dataset, Split, load
from niwaki.models.registry import build

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def digits() -> Any:
    return load(DataConfig(source="digits"))


def subject_of(name: str, config: dict[str, Any], digits: Any, tmp_path: Path) -> Subject:
    torch.manual_seed(0)
    model = build(name, config, digits.spec).eval()
    place = (tmp_path, tmp_path / "cache")
    return Subject(f"digits-{name}", model, digits, *place, 60, 8, 8, quick=True, features=("random",))


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


@pytest.mark.slow
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


@pytest.fixture
def text(tmp_path: Path) -> Subject:
    spec = DataSpec.of("text", (16,), levels=40)
    rng, parts = np.random.default_rng(0), []
    for n in (200, 60, 60):
        x = torch.from_numpy(rng.zipf(1.5, (n, 16)).clip(1, 40).astype(np.uint8) - 1)
        parts.append(Split.of(spec, x, attributes={"bytes": torch.full((n,), 16)}))
    torch.manual_seed(0)
    model = build("transformer", {"width": 16, "depth": 1, "heads": 2}, spec).eval()
    dataset = Dataset("zipf", spec, *parts, fingerprint="7" * 64)
    return Subject("text", model, dataset, tmp_path, tmp_path / "cache", 60, 4, 8, quick=True)


def test_tokens_are_judged_by_how_real_ones_are_predicted(text: Subject) -> None:
    found = judged(text, text.model)
    assert text.tokens
    assert set(found["verdict"]) == {"fidelity", "diversity"}
    for verdict in found["verdict"].values():
        assert (verdict["judge"], verdict["delta"], verdict["outcome"]) == ("predictions", 0.0, "no loss")
    assert found["figures"][0]["name"] == "bits per byte"
    assert found["figures"][0]["value"] > found["figures"][0]["interval"][0] > 0


def test_what_rows_are_compared_with_is_asked_once_and_found_again(text: Subject) -> None:
    before, margins = text.before, text.margins
    again = dataclasses.replace(text)
    again.evidence = None  # type: ignore[assignment,method-assign]
    assert again.before.arrays.keys() == before.arrays.keys()
    assert all(np.array_equal(again.before.arrays[k], a) for k, a in before.arrays.items())
    assert again.before.facts == before.facts
    assert again.margins == margins
    assert dataclasses.replace(text, n=55).key != text.key


@pytest.mark.slow
def test_images_are_judged_by_their_samples(gan: Subject) -> None:
    found = judged(gan, opened(Artefact("bundle", str(gan.bundle), "onnxruntime"), 1))
    assert {v["judge"] for v in found["verdict"].values()} == {"samples"}
    assert all(abs(v["delta"]) < 1e-3 for v in found["verdict"].values())
    assert any(f["name"] == "frechet (random)" for f in found["figures"])


def test_table_has_ratios_of_the_same_run_and_says_what_failed() -> None:
    def row(name: str, group: str, ms: float, **more: Any) -> dict[str, Any]:
        time = {"median_ms": ms, "low_ms": ms, "high_ms": ms, "runs": 3}
        latency = {"1": time, "16": time}
        return {"name": name, "group": group, "latency": latency, "bytes": 1000, "quality": {}, **more}

    verdict = {"fidelity": {"outcome": "no loss"}, "diversity": {"outcome": "loss"}}
    figures = [{"name": "bits per byte: less is better", "value": 1.5, "interval": [1.25, 1.75]}]
    records = [
        row(rows_module.EAGER, "baseline", 8.0, bytes=4000),
        row(rows_module.COMPILED, "baseline", 4.0),
        row("mine", "plan", 2.0, quality={"verdict": verdict, "figures": figures}),
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
    assert "1.5 ±0.25" in lines["mine"]
    assert "bits per byte" in captured.get()
    assert "less is better" not in captured.get()
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
