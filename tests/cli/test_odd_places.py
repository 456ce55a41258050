"""Files in other encodings, places that cannot be written, odd surroundings: a sentence, never "a defect"."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from niwaki.cli.main import status
from niwaki.core.store import read_json, write_json
from niwaki.data.cache import cache_directory

VALUES: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 8, "features": 16, "latent": 8},
    "train": {"steps": 2, "batch": 32},
}
TABLE = "time,größe\n" + "\n".join(f"{i},{i * i % 71}" for i in range(400))
WORDS = "Grüße aus München, sagte er. " * 200


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def told(said: Any, wanted: int, text: str) -> None:
    last = said.err.strip().splitlines()[-1]
    assert said.status == wanted, last
    assert last.startswith("niwaki: ")
    assert text in last
    assert not any(word in said.err for word in ("Traceback", "defect", "an error in code"))


def recipe(place: Path, encoding: str = "utf-8", **sections: Any) -> Path:
    values = {**VALUES, **sections}
    path = place / "r.yaml"
    path.write_bytes(f"# größe\n{yaml.safe_dump(values)}".encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32", "cp437"])
def test_a_recipe_in_another_encoding_is_told_so(niwaki: Any, here: Path, encoding: str) -> None:
    told(niwaki("train", recipe(here, encoding), "--out", "run"), 2, "r.yaml")
    assert not (here / "run").exists()


def test_a_recipe_may_begin_with_the_mark_of_utf_8(niwaki: Any, here: Path) -> None:
    assert niwaki("train", recipe(here, "utf-8-sig"), "--out", "run").status == 0


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32", "cp437"])
@pytest.mark.parametrize(
    ("name", "text", "data", "model"),
    [
        ("a.csv", TABLE, {"source": "series", "past": 8, "future": 4}, "forecaster"),
        ("a.txt", WORDS, {"source": "text", "length": 16}, "transformer"),
    ],
)
def test_data_in_another_encoding_are_told_so(
    niwaki: Any, here: Path, encoding: str, name: str, text: str, data: dict[str, Any], model: str
) -> None:
    (here / name).write_bytes(text.encode(encoding))
    made = recipe(here, data={**data, "path": name}, model={"name": model})
    told(niwaki("doctor", made), 2, name)


def pictures(root: bytes, names: tuple[bytes, ...]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        os.makedirs(os.path.join(root, name))
        for i in range(20):
            with open(os.path.join(root, name, b"%d.png" % i), "wb") as file:
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(file, "png")


def test_classes_whose_names_are_no_utf_8_are_set_aside_by_name(niwaki: Any, here: Path) -> None:
    pictures(b"pics", (b"a", b"b", b"gr\xfcn"))
    said = niwaki("doctor", recipe(here, data={"source": "folder", "path": "pics", "size": 8}))
    assert said.status == 0
    assert "gr\\xfcn" in said.out + said.err
    assert "names that are no UTF-8" in said.out + said.err


ODD = os.fsdecode(b"gr\xfcn")


def test_names_that_are_no_utf_8_are_taken_where_they_are_only_places(niwaki: Any, trained: Path) -> None:
    assert niwaki("sample", trained, "-n", 2, "--out", f"{ODD}.npz").status == 0
    assert os.path.exists(b"gr\xfcn.npz")
    said = niwaki("sample", trained, "-n", 2, "--out", f"{ODD}.npz", "--json")
    assert json.loads(said.out)["files"] == [f"{ODD}.npz"]
    assert niwaki("train", recipe(Path()), "--out", ODD).status == 0
    write_json("a.json", {"place": ODD})
    assert read_json("a.json") == {"place": ODD}


@pytest.mark.parametrize(
    "words",
    [
        ("train", f"{ODD}.yaml"), ("doctor", ODD), ("sample", ODD), ("report", ODD),
        ("evaluate", ODD, "--data", "digits"), ("evaluate", "x.npz", "--data", f"folder:{ODD}"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_utf_8_and_not_there_is_told(niwaki: Any, words: tuple[str, ...]) -> None:
    told(niwaki(*words), 2, "gr\\udcfcn" if "x.npz" not in words else "")


def test_a_terminal_of_another_encoding_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["models"], ["models", "--json"], ["train", "größe"]):
        out, err = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="ascii"))
        code = status(words)
        sys.stdout.flush()
        sys.stderr.flush()
        assert code == (2 if "train" in words else 0)
        if "--json" in words:
            assert json.loads(out.getvalue().decode("ascii"))["models"]
        if "train" in words:
            assert b"gr\\xf6\\xdfe" in err.getvalue()


def _file(here: Path) -> str:
    (here / "file").write_text("mine")
    return "file"


def _below_a_file(here: Path) -> str:
    return f"{_file(here)}/run"


def _dangling(here: Path) -> str:
    (here / "link").symlink_to("nowhere/deep")
    return "link"


def _below_dangling(here: Path) -> str:
    return f"{_dangling(here)}/run"


def _folder(here: Path) -> str:
    (here / "folder.npz").mkdir()
    (here / "folder.npz" / "thesis.txt").write_text("mine")
    return "folder.npz"


def _unwritable(here: Path) -> str:
    return "/proc/niwaki"  # nobody can write there, whoever he is


def _too_long(here: Path) -> str:
    return "x" * 300


PLACES: list[Callable[[Path], str]] = [
    _file, _below_a_file, _dangling, _below_dangling, _folder, _unwritable, _too_long,
]  # fmt: skip


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("verb", ["train", "sample", "export", "compress"])
def test_a_place_that_cannot_be_written_is_named(
    niwaki: Any, here: Path, trained: Path, verb: str, where: Callable[[Path], str]
) -> None:
    out = where(here)
    before = {path: path.is_file() and path.read_text() for path in here.rglob("*")}
    words = {
        "train": ("train", recipe(here)),
        "sample": ("sample", trained, "-n", 2),
        "export": ("export", trained / "model"),
        "compress": ("compress", trained / "model", "--data", "digits"),
    }[verb]
    if verb == "sample":
        out = out if out.endswith(".npz") else f"{out}/s.npz"
    if verb == "export" and where in (_dangling, _file, _too_long, _unwritable):
        out = f"{out}/m.niwaki"
    said = niwaki(*words, "--out", out)
    assert said.status in (1, 2), said.err
    told(said, said.status, (out.split("/")[0] or "/proc")[:40])
    assert {path: path.is_file() and path.read_text() for path in before} == before


def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container of a user whom nobody knows."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("NIWAKI_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def _named(name: str, value: str) -> Callable[[pytest.MonkeyPatch], None]:
    def change(monkeypatch: pytest.MonkeyPatch) -> None:
        if name != "TMPDIR":
            monkeypatch.delenv("NIWAKI_CACHE")
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv(name, value)
        monkeypatch.setattr("tempfile.tempdir", None)

    return change


def slow(*case: Any) -> Any:
    """One of its kind is enough for the usual tests: each evaluates a whole run."""
    return pytest.param(*case, marks=pytest.mark.slow)


def _cache(value: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setenv("NIWAKI_CACHE", value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        (_no_home, True),
        slow(_named("HOME", "/proc/nowhere"), True),
        slow(_named("HOME", "file"), True),
        slow(_named("XDG_CACHE_HOME", "/proc/nowhere"), True),
        slow(_cache("/proc/nowhere"), True),
        slow(_cache("file"), True),
        slow(_cache("link"), True),
        (_named("TMPDIR", "/nowhere"), False),
        slow(_named("TMPDIR", "file"), False),
    ],
)  # fmt: skip
def test_a_cache_that_cannot_be_had_is_a_note_and_no_reason_to_fail(
    niwaki: Any,
    here: Path,
    change: Callable[[pytest.MonkeyPatch], None],
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _file(here)
    _dangling(here)
    rng = np.random.default_rng(0)
    np.savez(here / "x.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8))
    pictures(b"pics", (b"a", b"b"))
    change(monkeypatch)
    said = niwaki(
        "evaluate", "x.npz", "--data", "digits", "--features", "random", "--metrics", "frechet", "-n", 60
    )
    assert said.status == 0, said.err
    assert ("for the next call" in said.err) is is_told
    made = recipe(here, data={"source": "folder", "path": "pics", "size": 8})
    assert niwaki("doctor", made).status == 0


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"NIWAKI_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/niwaki"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/niwaki"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/niwaki"),
        ({"NIWAKI_CACHE": "", "HOME": "/home/me"}, "/home/me/.cache/niwaki"),
        ({"NIWAKI_CACHE": "~/kept", "HOME": "/home/me"}, "/home/me/kept"),
    ],
)
def test_where_the_cache_lies(named: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NIWAKI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == Path(expected)


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "x.npz", "--data", "folder:~nobodyatall/pics"),
        ("evaluate", "x.npz", "--data", "arrays:~nobodyatall/x.npz"),
        ("evaluate", "x.npz", "--data", "series:~nobodyatall/x.csv"),
        ("train", "r.yaml", "data.source=text", "data.path=~nobodyatall/t.txt", "data.length=8"),
        ("train", "r.yaml", "data.source=folder", "data.path=~nobodyatall/pics"),
        ("evaluate", "x.npz", "--data", "r.yaml", "--features", "inception:~nobodyatall/w.safetensors"),
    ],
)
def test_a_home_directory_that_nobody_knows_is_named(niwaki: Any, here: Path, words: tuple[str, ...]) -> None:
    np.savez(here / "x.npz", x=np.zeros((60, 8, 8), np.uint8))
    recipe(here)
    told(niwaki(*words), 2, "~nobodyatall")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--start", "-1"), "start must not be negative"),
        (("--batch", "0"), "batch at least 1"),
        (("-n", "9" * 20), "n and start must"),
        (("--start", "9" * 20), "n and start must"),
        (("--seed", "9" * 30), "seed must fit into 64 bits"),
        (("temperature=nan",), "'temperature'"),
        (("--memory", "lots"), "is no bundle"),
        (("--device", "odd"), "'odd'"),
        (("=3",), "is not an override"),
    ],
)
def test_figures_that_are_none_are_named(
    niwaki: Any, trained: Path, words: tuple[str, ...], text: str
) -> None:
    told(niwaki("sample", trained, "--out", "s.npz", *words), 2, text)
