"""Notebooks of tutorials, with their outputs: the same text and the same code, run from the first cell on.

python docs/notebooks.py              # all of them, into notebooks/
python docs/notebooks.py evaluate     # one
python docs/notebooks.py --text       # the text alone, where no code has changed

Needs nbformat, nbclient and ipykernel (`pip install 'niwaki[docs]'`).
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from blocks import FENCE, Block, environment
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TUTORIALS = Path(__file__).parent / "tutorials"
HERE = Path(__file__).parents[1] / "notebooks"
PAGES = {"evaluate": "05-judge-samples", "compress": "06-make-it-small", "search": "07-search-to-a-budget"}
"""Notebooks by name, and the tutorials that they are made of."""
LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")
MARKS = re.compile(r"\x1b\[[0-9;]*m| at 0x[0-9a-f]+")
"""Of a terminal, and of where an object lay in memory."""


def source_of(block: Block) -> str:
    """A block as a cell says it."""
    code = block.code.rstrip("\n")
    if block.file:
        return f"%%writefile {block.file}\n{code}"
    return f"%%bash\n{code}" if block.language == "sh" else code


def cells_of(page: str) -> Iterator[NotebookNode]:
    """The cells of a page, code where its blocks are run, text else; their ids count up."""
    parts: list[tuple[bool, str]] = []
    end = 0
    for found in FENCE.finditer(page):
        block = Block(found[1], found[2])
        if block.runs:
            parts += [(False, page[end : found.start()]), (True, source_of(block))]
            end = found.end()
    parts.append((False, page[end:]))
    for number, (is_code, text) in enumerate((c, t.strip("\n")) for c, t in parts):
        make = new_code_cell if is_code else new_markdown_cell
        if text:
            yield make(text if is_code else LINK.sub(_from_notebooks, text), id=f"cell-{number}")


def _from_notebooks(link: re.Match[str]) -> str:
    """A link of a tutorial, as it leads there from notebooks/."""
    path, mark, place = link[1].partition("#")
    target = os.path.relpath((TUTORIALS / path).resolve(), HERE.resolve())
    return f"]({target}{mark}{place})"


def notebook(name: str) -> NotebookNode:
    """A notebook without outputs."""
    page = (TUTORIALS / f"{PAGES[name]}.md").read_text(encoding="utf-8")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=list(cells_of(page)), metadata={"kernelspec": kernel})


def executed(name: str, timeout: int = 3000) -> NotebookNode:
    """The notebook with the outputs of a run in a folder of its own. Raises CellExecutionError."""
    from nbclient import NotebookClient

    book = notebook(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(environment(Path(folder)))
        NotebookClient(book, timeout=timeout, resources={"metadata": {"path": folder}}).execute()
        for cell in book.cells:
            cell.metadata.pop("execution", None)  # when it ran
            if cell.cell_type == "code":
                cell.outputs = tidied(cell.outputs, folder)
    return book


def tidied(outputs: list[NotebookNode], folder: str) -> list[NotebookNode]:
    """Outputs without progress, without the places of the machine that they came from, text that was put out
    in pieces as one."""
    parts: list[NotebookNode] = []
    for output in outputs:
        if output.output_type != "stream":
            parts.append(output)
        elif output.name == "stdout" and parts and parts[-1].output_type == "stream":
            parts[-1].text += output.text
        elif output.name == "stdout":
            parts.append(output)
    return [_without(part, folder) for part in parts]


def _without(output: NotebookNode, folder: str) -> NotebookNode:
    """Without the places of the machine that it ran on, and the marks of its terminal."""
    places = ((os.path.realpath(folder), "."), (folder, "."), (str(Path.home()), "~"))

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return type(value)({key: clean(one) for key, one in value.items()})
        if isinstance(value, list):
            return [clean(one) for one in value]
        if not isinstance(value, str):
            return value
        for place, name in places:
            value = value.replace(place, name)
        return MARKS.sub("", value)

    return clean(output)


def with_text_anew(name: str) -> NotebookNode:
    """The notebook that is there, with the text of its tutorial as it is now.

    Raises ValueError where the code of the tutorial is another one: the notebook must be run.
    """
    old, new = nbformat.read(HERE / f"{name}.ipynb", 4), notebook(name)
    ran, code = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (old, new))
    if [cell.source for cell in ran] != [cell.source for cell in code]:
        raise ValueError(f"the code of {PAGES[name]}.md has changed; run the notebook")
    for before, cell in zip(ran, code, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return new


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PAGES)}; all where none is named")
    parser.add_argument("--text", action="store_true", help="nothing is run: text anew, outputs as they are")
    options = parser.parse_args()
    for name in options.names or PAGES:
        book = with_text_anew(name) if options.text else executed(name)
        nbformat.validate(book)
        HERE.mkdir(exist_ok=True)
        (HERE / f"{name}.ipynb").write_text(nbformat.writes(book) + "\n", encoding="utf-8")
        print(f"notebooks/{name}.ipynb")


if __name__ == "__main__":
    main()
