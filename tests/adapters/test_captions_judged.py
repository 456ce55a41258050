"""Pipelines that are asked by texts, evaluated on data that have classes: each stands for its caption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines
import pytest

from niwaki.cli.main import status

pytest.importorskip("diffusers")

KINDS: dict[str, tuple[Callable[[Path], Any], dict[str, int]]] = {
    "two texts": (pipelines.xl, {}),
    "three texts": (pipelines.sd3, {"length": 12}),
    "squares": (pipelines.flux, {"length": 12, "size": 8}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_evaluated_by_the_captions_of_classes(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make, settings = KINDS[kind]
    make(tmp_path / "words").save_pretrained(tmp_path / "folder")

    def measured(captions: tuple[str, ...]) -> list[str]:
        """All that the evaluation says of the samples."""
        words = ["evaluate", "folder", "--data", "digits", "--features", "random", "--metrics", "frechet"]
        words += ["model.steps=2", f"model.captions={json.dumps(captions)}", "evaluate.n=64", "--json"]
        code = status([*words, *(f"model.{k}={v}" for k, v in settings.items())])
        said = capsys.readouterr()
        assert code == 0, said.err
        found = _named(json.loads(said.out), "frechet")
        assert found
        return found

    assert measured(pipelines.CAPTIONS) != measured(("a zero",) * 10), "captions do not reach the samples"


def _named(record: Any, name: str) -> list[str]:
    """Everything of that name, however deep."""
    if isinstance(record, list):
        return [found for each in record for found in _named(each, name)]
    if not isinstance(record, dict):
        return []
    own = [json.dumps(record[name], sort_keys=True)] if name in record else []
    return own + [found for key, each in record.items() if key != name for found in _named(each, name)]
