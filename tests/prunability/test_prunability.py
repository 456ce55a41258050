"""Every architecture of the zoo: pruned by 30 % and by 50 %, it runs, trains, reloads and exports, or the
refusal is the expected one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prunability.examine import Reader, examine
from prunability.zoo import CASES

from niwaki.contract import NiwakiError


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    one = Reader()
    yield one
    one.close()


def cases() -> Iterator[object]:
    for one in CASES.values():
        yield pytest.param(one.name, marks=() if one.fast else pytest.mark.slow)


@pytest.mark.parametrize("ratio", [0.3, 0.5])
@pytest.mark.parametrize("name", cases())
def test_an_architecture_prunes_runs_trains_reloads_and_exports(
    name: str, ratio: float, tmp_path: Path, reader: Reader
) -> None:
    one = CASES[name]
    if one.refuses:
        with pytest.raises(NiwakiError, match=one.refuses):
            examine(one, ratio, tmp_path, reader)
        return
    found = examine(one, ratio, tmp_path, reader)
    assert found.after <= found.before * one.leaves


def test_the_zoo_is_as_large_as_promised() -> None:
    assert len(CASES) >= 60
    assert sum(one.fast for one in CASES.values()) >= 10
