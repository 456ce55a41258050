"""Targets enter themselves by name, and every bundle can be written as itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import niwaki_runtime
from niwaki.api.export import export
from niwaki.core.contract import CallError
from niwaki.deployment import package
from niwaki.deployment.targets import TARGETS, with_defaults


@pytest.mark.parametrize("archive", [True, False])
def test_a_bundle_is_copied_whole_as_a_file_and_as_a_directory(
    archive: bool, exported: Callable, tmp_path: Path
) -> None:
    bundle = package(*exported("flow"), tmp_path / "a.niwaki", archive=archive)
    found = export(bundle, out=tmp_path / "there" / "b.niwaki")
    assert found["bundle"] == tmp_path / "there" / "b.niwaki"
    assert niwaki_runtime.inspect(found["bundle"]) == niwaki_runtime.inspect(bundle)
    assert export(bundle)["bundle"] == bundle


def test_a_model_is_written_where_it_is_asked_for(build: Callable, tmp_path: Path) -> None:
    found = export(build("flow"), out=tmp_path / "b.niwaki")
    assert niwaki_runtime.inspect(tmp_path / "b.niwaki").name == "toy"
    assert found["bytes"] > 0


def test_unknown_targets_and_options_are_named(exported: Callable, tmp_path: Path) -> None:
    bundle = package(*exported("flow"), tmp_path / "a.niwaki")
    with pytest.raises(CallError, match="no target 'bundel'; did you mean 'bundle'"):
        export(bundle, target="bundel")
    with pytest.raises(CallError, match="'bundle' has no option 'x'; it has none"):
        export(bundle, options={"x": 1})
    with pytest.raises(CallError, match="nothing to set"):
        export(bundle, ["train.steps=1"])


def test_a_directory_is_no_place_for_a_file(exported: Callable, tmp_path: Path) -> None:
    bundle = package(*exported("flow"), tmp_path / "a.niwaki")
    (tmp_path / "d").mkdir()
    with pytest.raises(CallError, match="of another kind"):
        export(bundle, out=tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []


def test_every_target_names_its_output_and_takes_its_options() -> None:
    for name in TARGETS.names():
        form = TARGETS[name]()
        assert form.suffix, name
        assert form.default_out(Path("x/a.niwaki")) == Path(f"x/a{form.suffix}")
        assert with_defaults(form, {}) == dict(form.options)
