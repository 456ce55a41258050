"""The notebooks are the tutorials, with what they put out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.doc_scripts import ROOT, script

nbformat = pytest.importorskip("nbformat")
notebooks = script("notebooks")
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_has_its_tutorial() -> None:
    assert {path.stem for path in FILES} == set(notebooks.PAGES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_is_valid_small_and_names_no_place_of_a_machine(path: Path) -> None:
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    assert path.stat().st_size < 300_000
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(?:tmp|home|root|work|Users)/", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_cells_are_those_of_the_tutorial_and_were_run_in_order(path: Path) -> None:
    book, page = nbformat.read(path, 4), notebooks.notebook(path.stem)
    assert [(c.cell_type, c.source) for c in book.cells] == [(c.cell_type, c.source) for c in page.cells]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert any(cell.outputs for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", cell.source):
                assert (path.parent / target).exists(), target


@pytest.mark.parametrize(
    ("language", "code", "source"),
    [
        ("python", "x = 1\n", "x = 1"),
        ("python", "# a.py\nx = 1\n", "%%writefile a.py\n# a.py\nx = 1"),
        ("sh", "ls\n", "%%bash\nls"),
    ],
)
def test_a_block_becomes_a_cell(language: str, code: str, source: str) -> None:
    assert notebooks.source_of(script("blocks").Block(language, code)) == source


@pytest.mark.slow
def test_a_notebook_runs_to_its_end() -> None:
    pytest.importorskip("nbclient")
    book = notebooks.executed("evaluate")
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")


def test_text_is_made_anew_without_a_run_and_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    book = notebooks.with_text_anew("evaluate")
    there = nbformat.read(ROOT / "notebooks" / "evaluate.ipynb", 4)
    assert [cell.get("outputs") for cell in book.cells] == [cell.get("outputs") for cell in there.cells]
    other = notebooks.notebook("evaluate")
    next(cell for cell in other.cells if cell.cell_type == "code").source += "\nx = 1"
    monkeypatch.setattr(notebooks, "notebook", lambda name: other)
    with pytest.raises(ValueError, match="run the notebook"):
        notebooks.with_text_anew("evaluate")


def test_outputs_are_one_text_without_progress_marks_and_places() -> None:
    def stream(text: str, name: str = "stdout") -> object:
        return nbformat.v4.new_output("stream", name=name, text=text)

    value = nbformat.v4.new_output("execute_result", data={"text/plain": "<Run at 0x7f00> /place/runs"})
    outputs = [stream("plan."), stream("step 1/9", "stderr"), stream("yaml\n\x1b[1m/place/a\x1b[0m\n"), value]
    text, last = notebooks.tidied(outputs, "/place")
    assert (text.name, text.text) == ("stdout", "plan.yaml\n./a\n")
    assert last.data == {"text/plain": "<Run> ./runs"}
