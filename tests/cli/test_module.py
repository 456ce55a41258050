"""`python -m niwaki` and `python -m niwaki.cli` are the command line."""

from __future__ import annotations

import runpy

import pytest


@pytest.mark.parametrize("module", ["niwaki", "niwaki.cli"])
def test_the_package_runs_as_the_command(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["niwaki", "run", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module(module, run_name="__main__")
    assert left.value.code in (0, None)
    assert "Usage:" in capsys.readouterr().out
