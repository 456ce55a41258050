"""A handful at the top of the page: real samples beside made ones of the same class, for every modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import DataSpec
from niwaki.report import originals, pictures
from niwaki.report.glance import glance, real_beside
from niwaki.report.record import RunRecord
from niwaki.report.sheet import samples, shown_of

SPECS = {
    "image": DataSpec.of("image", (1, 4, 4), classes=3),
    "colour": DataSpec.of("image", (3, 8, 8)),
    "series": DataSpec.of("series", (2, 16)),
    "video": DataSpec.of("video", (3, 1, 8, 8)),
    "text": DataSpec.of("text", (40,), levels=128),
    "audio": DataSpec.of("audio", (1, 400)),
    "vector": DataSpec.of("vector", (2,)),
}


def run(name: str, *, both: bool = True, real: bool = True) -> RunRecord:
    spec = SPECS[name]
    rng = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        if spec.is_tokens:
            return rng.integers(97, 120, (n, *spec.shape))
        return rng.uniform(-1, 1, (n, *spec.shape)).astype(np.float32)

    record = RunRecord(Path(), {}, data={"spec": spec.to_json()})
    record.samples = {"before": draw(30)} | ({"after": draw(30)} if both else {})
    if real:
        record.real = {"samples": draw(30)}
    if spec.classes:
        record.samples["labels"] = np.arange(30) % spec.classes
        if real:
            record.real["labels"] = np.arange(30)[::-1] % spec.classes
    return record


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("both", [True, False])
def test_real_samples_stand_beside_made_ones(name: str, both: bool) -> None:
    record = run(name, both=both)
    found, sheets = glance(record), samples(record)
    filled = [part for part in ("columns", "media", "chart", "exhibits") if found[part]]
    assert len(filled) == 1
    assert "a real one of the test split" in found["legend"].lower()
    assert ("the bundle" in found["legend"]) == both or filled == ["media"]
    for column in found["columns"]:
        assert len(column["pictures"]) == 2 + both
        assert all(address.startswith("data:image/") for _, address in column["pictures"])
    if found["media"]:
        assert found["media"][0][1] == "a real one of the test split"
        assert len(sheets["real_media"]) == len(sheets["media"]) == 8
    if found["columns"]:
        assert len(sheets["real"]) == len(sheets["tiles"]) == 30


@pytest.mark.parametrize("name", SPECS)
def test_a_run_without_kept_real_samples_shows_what_was_made(name: str) -> None:
    found = glance(run(name, real=False))
    assert "real" not in found["legend"].lower()
    assert all(len(column["pictures"]) == 2 for column in found["columns"])
    assert glance(RunRecord(Path(), {})) == {}


def test_each_column_is_of_one_class() -> None:
    record = run("image")
    spec = SPECS["image"]
    made, real = record.samples["labels"], record.real["labels"]
    index = pictures.spread(made, 30, 10)
    places = real_beside(real, made, index)
    assert [real[p] for p in places] == [made[i] for i in index]
    assert len(set(places)) == len(places), "no real sample is shown twice"
    columns = glance(record)["columns"]
    assert [c["caption"] for c in columns] == [record.class_name(int(made[i])) for i in index]
    first = columns[0]["pictures"]
    assert first[0][1] == pictures.picture(record.real["samples"][places[0]], spec)
    assert first[1][1] == pictures.picture(record.samples["before"][index[0]], spec)
    assert first[2][1] == pictures.picture(record.samples["after"][index[0]], spec)


def test_a_class_without_a_real_sample_stands_alone() -> None:
    assert real_beside(np.array([1, 1]), np.array([0, 1, 1, 1]), [0, 1, 2, 3]) == [None, 0, 1, None]
    assert real_beside(None, np.array([0, 1]), [0, 1]) == [0, 1]


def test_runs_without_samples_show_what_the_first_judge_shows() -> None:
    record = run("series")
    record.samples = {}
    shown = [{"caption": str(i), "media": []} for i in range(5)]
    record.sections = {"before": [{"judge": "forecast", "details": {"exhibits": shown, "legend": "Black."}}]}
    found = glance(record)
    assert [e["caption"] for e in found["exhibits"]] == ["0", "1", "2"]
    assert found["legend"] == "Black."


@pytest.mark.parametrize(
    ("spec", "kind", "count"),
    [
        (DataSpec.of("image", (1, 8, 8)), "picture", 60),
        (DataSpec.of("image", (1, 8, 8), classes=100), "picture", 100),
        (DataSpec.of("image", (3, 256, 256)), "picture", 10),
        (DataSpec.of("text", (64,), levels=256), "text", 8),
        (DataSpec.of("text", (5,), levels=7), "text", 1000),
        (DataSpec.of("vector", (2,)), "text", 1000),
    ],
)
def test_as_many_are_kept_as_are_shown(spec: DataSpec, kind: str, count: int) -> None:
    assert shown_of(spec, kind) == count


def test_nothing_is_kept_where_nothing_was_made() -> None:
    record: Any = run("image")
    assert originals.beside(record) == 60
    record.samples = {}
    assert originals.beside(record) == 0
