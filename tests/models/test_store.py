"""What a cache keeps as JSON."""

from __future__ import annotations

from pathlib import Path

from niwaki.core.store import hash_directory, kept_json, write_json


def test_what_is_kept_is_made_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    path, made = tmp_path / "deep" / "found.json", []

    def make() -> dict[str, int]:
        made.append(1)
        return {"n": len(made)}

    assert kept_json(path, make) == {"n": 1}
    assert kept_json(path, make) == {"n": 1}
    for damage in ("{", "[1, 2]", ""):
        path.write_text(damage)
        known = len(made)
        assert kept_json(path, make) == {"n": known + 1}
    write_json(path, {"other": 1})
    assert kept_json(path, make, lambda found: "n" in found)["n"] == len(made)
    before = len(made)
    assert kept_json(None, make) == {"n": before + 1}
    assert kept_json(None, make) == {"n": before + 2}


def test_a_directory_is_known_by_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "x").write_text("1")
    assert hash_directory(tmp_path / "a") == hash_directory(tmp_path / "b")
    (tmp_path / "b" / "in" / "x").rename(tmp_path / "b" / "in" / "y")
    assert hash_directory(tmp_path / "a") != hash_directory(tmp_path / "b")
