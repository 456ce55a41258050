"""Classes by name, found by folder; a file that cannot be imported stops nothing but itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from niwaki.core import registry
from niwaki.core.registry import Registry
from niwaki.models import built_in
from niwaki_runtime.errors import CallError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "kinds_of_things"
    (home / "deep").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "deep" / "__init__.py").write_text("")
    (home / "good.py").write_text(
        "import kinds_of_things\nkinds_of_things.known.register('good')(type('A', (), {}))\n"
    )
    (home / "deep" / "also.py").write_text(
        "import kinds_of_things\nkinds_of_things.known.register('also')(type('B', (), {}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "BROKEN", {})
    import kinds_of_things  # type: ignore[import-not-found]

    kinds_of_things.known = Registry("thing", ("kinds_of_things",))
    yield home  # type: ignore[misc]
    for name in [n for n in sys.modules if n.split(".")[0] == "kinds_of_things"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("from kinds_of_things import nothing\n", "ImportError"),
        ("raise SystemError('half\\nwritten')\n", "SystemError: half"),
    ],
)
@pytest.mark.parametrize("at", ["bad.py", "deep/bad.py"])
def test_a_broken_file_is_named_and_the_others_are_there(package: Path, text: str, why: str, at: str) -> None:
    (package / at).write_text(text)
    known = sys.modules["kinds_of_things"].known
    assert known.names() == ["also", "good"]
    with pytest.raises(CallError, match=r"there is no thing 'bda'; .*cannot be imported") as error:
        known["bda"]
    assert f"{package / at} cannot be imported ({why}" in str(error.value)
    assert "\n" not in str(error.value)
    (package / at).write_text("")
    known.names()
    assert not registry.BROKEN, "what was mended is no longer told"


def test_all_that_niwaki_brings_can_be_imported() -> None:
    assert built_in()
    assert not registry.BROKEN
