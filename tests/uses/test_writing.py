"""What a use writes: a file for each sample, none lost, none outside, and the given ones as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import niwaki
from niwaki import models
from niwaki.cli.main import app
from niwaki.core.contract import DataSpec
from niwaki.uses import Outcome, find_use, names_of_uses
from niwaki.uses.outcome import stems
from niwaki.uses.reading import read_samples
from niwaki.uses.settings import meanings, settings_of
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.specs.values import Levels

SPEC = ValueSpec("image", (1, 4, 4), "CHW", Levels(17))


def small() -> Any:
    settings = {"latent": 3, "width": 4, "hidden": 8}
    return models.build("vae", settings, DataSpec.of("image", (1, 8, 8), levels=17)).eval()


def outcome(n: int, names: list[str] | None = None, **changed: Any) -> Outcome:
    """Sample i is of level i."""
    x = np.broadcast_to(np.arange(n).reshape(-1, 1, 1, 1) / 8.0 - 1.0, (n, *SPEC.shape))
    return Outcome(x=x, spec=SPEC, names=names or [], **changed)


def test_a_file_for_each_whatever_they_are_called(tmp_path: Path) -> None:
    names = [
        "a.png", "a.png", "a.jpg", "A.png", "a-2.png", "ü b.png", "../../out.png", "..", ".", "",
        "/etc/x.png", "a\x00b", "line\nend.png", "\ud800.png", "\udcff.png", "long" * 400,
    ]  # fmt: skip
    made = outcome(len(names), names).write(tmp_path / "back")
    assert len(set(made)) == len(names) == len(list((tmp_path / "back").iterdir()))
    assert {p.name for p in tmp_path.iterdir()} == {"back"}
    for i, file in enumerate(made):
        assert (np.asarray(Image.open(file)) == round(i * 255 / 16)).all()
    assert [p.stem for p in made[:6]] == ["a", "a-2", "a-3", "A-4", "a-2-2", "ü b"]


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11])
def test_numbers_where_nothing_is_named(n: int) -> None:
    assert sorted(stems((), n)) == stems((), n)
    assert len({len(s) for s in stems((), n)}) <= 1


@pytest.mark.parametrize("ending", [".png", ".npy", ".npz", ".csv", ".json", ""])
def test_given_files_are_never_lost(ending: str, tmp_path: Path) -> None:
    place = tmp_path / f"mine{ending}"
    if ending:
        place.write_bytes(b"mine")
        kept = place
    else:
        place.mkdir()
        kept = place / "0.png"
        kept.write_bytes(b"mine")
    with pytest.raises(CallError, match="one of the given files"):
        outcome(2, ["0.png", "1.png"], rows=[{"a": 1}], given=[place]).write(place)
    assert kept.read_bytes() == b"mine"
    assert len(list(tmp_path.rglob("*"))) == 1 + (not ending)  # nor was any other written
    outcome(2, ["0.png", "1.png"], rows=[{"a": 1}]).write(place)
    assert kept.read_bytes() != b"mine"  # of others a new version takes the place, as with `niwaki sample`


@pytest.mark.parametrize(
    ("made", "place", "text"),
    [
        (outcome(2), "file", "is a file"),
        (outcome(2), "file/below", "file"),
        (outcome(2), "a.xyz", "written as"),
        (outcome(0), "a.png", "no samples"),
        (Outcome(data=b"x", ending=".nwk"), "folder", "is a folder"),
        (Outcome(rows=[{"a": 1}]), "folder", "table"),
        (Outcome(data=b"x", ending=".nwk"), "file/a.nwk", "file"),
    ],
)
def test_places_that_cannot_be(made: Outcome, place: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NiwakiError, match=text):
        made.write(tmp_path / place)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_arrays_are_read_again(tmp_path: Path) -> None:
    outcome(5, [f"{i}.png" for i in range(5)]).write(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as held:
        assert held["names"].tolist() == [f"{i}.png" for i in range(5)]
    assert np.array_equal(read_samples([tmp_path / "x.npz"], SPEC)[0], outcome(5).x)


@pytest.mark.parametrize("use", ["reconstruct", "anomalies", "interpolate", "swap"])
def test_files_without_samples(use: str, tmp_path: Path) -> None:
    model = small()
    np.save(tmp_path / "none.npy", np.zeros((0, 1, 8, 8)))
    with pytest.raises(CallError, match="no samples"):
        niwaki.use(use, model, tmp_path / "none.npy")


@pytest.mark.parametrize("use", ["encode", "decode"])
def test_a_model_in_memory_is_no_bundle(use: str, tmp_path: Path) -> None:
    model = small()
    with pytest.raises(CallError, match="bundle"):
        niwaki.use(use, model, tmp_path)


@pytest.mark.parametrize(
    "files", [np.zeros((2, 1, 8, 8)), [np.zeros((1, 8, 8))], Image.new("L", (8, 8)), None, [3], b"a.png"]
)
def test_samples_in_memory_are_no_files(files: Any) -> None:
    with pytest.raises(CallError, match="files are named"):
        niwaki.use("reconstruct", small(), files)


# ------------------------------------------------------------------------------------- what a use can be told


@pytest.mark.parametrize("use", names_of_uses())
def test_every_setting_says_what_it_means(use: str) -> None:
    found = find_use(use)
    assert [s["name"] for s in settings_of(found.Options)] == list(found.Options.model_fields)
    assert all(s["meaning"] for s in settings_of(found.Options))
    told = CliRunner().invoke(app, ["use", use])
    assert told.exit_code == 0
    assert found.summary in told.output
    assert all(s["name"] in told.output for s in settings_of(found.Options))


def test_meanings_of_several_names_and_lines() -> None:
    class Told:
        """What.

        a:    one
              more
        b, c: two
        And no entry.
        """

    assert meanings(Told) == {"a": "one more", "b": "two", "c": "two"}


@pytest.mark.parametrize("between", ["0,3,5", "[0,3,5]", [0, 3, 5], (0, 3, 5)])
def test_lists_with_and_without_brackets(between: Any) -> None:
    options = find_use("interpolate").options({"between": between})
    assert options.between == (0, 3, 5)  # type: ignore[attr-defined]
