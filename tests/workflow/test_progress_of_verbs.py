"""Verbs of the Python interface show progress where somebody looks, and only there."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import niwaki
from niwaki.api.progress import with_progress
from niwaki.api.report import report
from niwaki.workflow import progress as progress_module
from niwaki.workflow.notebook.progress import InCell
from niwaki.workflow.progress import Drawn, Plain
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.watching import watched


@with_progress
def verb(x: int, *, reporter: Any = None) -> Any:
    """A verb that says whom it tells."""
    return x, reporter


class Shown:
    """What a notebook is given: every page of every place in a cell."""

    def __init__(self) -> None:
        self.places: list[list[str]] = []

    def display(self, page: str, *, display_id: bool = False) -> Any:
        assert display_id, "a place that is drawn anew, not a line more"
        self.places.append([page])
        place = self.places[-1]
        return types.SimpleNamespace(update=place.append)

    @property
    def last(self) -> str:
        (place,) = self.places
        return place[-1]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """A kernel of a notebook, faked: stderr is no terminal there."""
    shown, ipython, display = Shown(), types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.HTML, display.display = str, shown.display  # type: ignore[attr-defined]
    for name, module in (
        ("ipykernel", types.ModuleType("ipykernel")),
        ("IPython", ipython),
        ("IPython.display", display),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    return shown


@pytest.mark.parametrize(
    ("terminal", "asked", "kind"),
    [
        (True, None, Drawn),
        (True, True, Drawn),
        (True, False, None),
        (False, None, None),
        (False, True, Plain),
        (False, False, None),
    ],
)
def test_progress_is_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, asked: bool | None, kind: type | None
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    x, reporter = verb(3, progress=asked)
    assert x == 3
    assert type(reporter) is (kind or type(None))
    own = Quiet()
    assert verb(1, reporter=own, progress=True) == (1, own), (
        "a reporter that is given is the one that is told"
    )


@pytest.mark.parametrize(("asked", "kind"), [(None, InCell), (True, InCell), (False, None)])
def test_a_notebook_shows_it_unasked(notebook: Shown, asked: bool | None, kind: type | None) -> None:
    assert type(verb(3, progress=asked)[1]) is (kind or type(None))


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()], ids=["no shell", "a shell in a terminal"])
def test_a_kernel_that_is_only_imported_is_no_notebook(
    notebook: Shown, monkeypatch: pytest.MonkeyPatch, shell: Any
) -> None:
    sys.modules["IPython"].get_ipython = lambda: shell  # type: ignore[attr-defined]
    assert watched(None) is None
    assert type(watched(True)) is Plain
    monkeypatch.delitem(sys.modules, "IPython")
    assert type(watched(True)) is Plain


def test_a_notebook_shows_progress_in_one_place(notebook: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    shown = InCell()
    shown.ahead(lambda: "training about 20 min")
    shown.stage("train", "<b>gan</b> on 'digits'")
    for k in range(1001):
        now[0] += 0.02
        shown.update(k, 50_000, {"loss": 0.25})
    assert len(notebook.places) == 1, "one place, however often something is told"
    assert len(notebook.places[0]) < 100, "drawn a few times a second at most"
    assert "training about 20 min" in notebook.last
    assert "&lt;b&gt;gan&lt;/b&gt; on &#x27;digits&#x27;" in notebook.last
    assert "<b>gan" not in notebook.last
    assert "about 17 min" in notebook.last  # 50,000 units of 0.02 s
    assert "<progress" in notebook.last
    assert "/50,000 loss 0.25" in notebook.last
    shown.note("all <is> well")
    shown.close()
    assert "all &lt;is&gt; well" in notebook.last
    assert "<progress" not in notebook.last
    assert "✓ <b>train</b>" in notebook.last
    assert "20 s" in notebook.last


def test_a_notebook_says_what_failed(notebook: Shown) -> None:
    @with_progress
    def failing(*, reporter: Any = None) -> None:
        reporter.stage("train", "gan")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        failing()
    assert "✗ <b>train</b>" in notebook.last


VERBS: dict[str, Callable[..., Any]] = {
    name: getattr(niwaki, name)
    for name in (
        "adapt", "adapt_language_model", "adapt_pipeline", "compare", "compress", "evaluate", "export", "run",
        "sample", "train", "tune",
    )
} | {"report": report}  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_tells_its_progress_when_asked(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each takes `progress`, and keeps the signature and the words that help shows."""
    called = VERBS[name]
    assert "progress" in called.__code__.co_varnames  # type: ignore[attr-defined]
    assert called.__doc__
