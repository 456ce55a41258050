"""One kind of register serves models and encoders."""

from __future__ import annotations

import pytest

from niwaki.core.contract import CallError
from niwaki.core.registry import Registry


class Thing:
    name: str


def test_a_class_is_known_by_the_name_it_was_entered_under() -> None:
    things: Registry[Thing] = Registry("thing", ())

    @things.register("cup")
    class Cup(Thing):
        pass

    assert Cup.name == "cup"
    assert things["cup"] is Cup
    assert things.names() == ["cup"]
    assert things.built_in_names() == [], "niwaki does not bring it"
    with pytest.raises(CallError, match="there is no thing 'cub'; did you mean 'cup'"):
        things["cub"]
    newer = things.register("cup")(type("Newer", (Thing,), {}))
    assert things["cup"] is newer


def test_built_in_modules_are_imported_when_names_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr("niwaki.core.registry.importlib.import_module", imported.append)
    things: Registry[Thing] = Registry("thing", ("a.b", "c"))
    things.register("cup")(Thing)
    assert things["cup"] is Thing
    assert imported == [], "what is known needs no import"
    with pytest.raises(CallError, match="no thing 'x'"):
        things["x"]
    assert imported == ["a.b", "c"]


def test_registries_keep_to_themselves() -> None:
    first: Registry[Thing] = Registry("thing", ())
    second: Registry[Thing] = Registry("thing", ())
    first.register("cup")(Thing)
    assert second.names() == []
