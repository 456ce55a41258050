"""What the verbs share: their options, their way to work quietly, and their way to answer."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from niwaki.workflow.watching import Watched, watched

__all__ = [
    "Fresh",
    "Json",
    "Out",
    "Overrides",
    "Resume",
    "Track",
    "Work",
    "adder",
    "at_work",
    "with_trackers",
]

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="SECTION.KEY=VALUE", help="Change anything in the recipe.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable object on stdout.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run directory. [dim]default: runs/<name>[/]")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Train on from the last checkpoint; with more train.steps, also when done."
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Train again from the first step, giving up what is there.")
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track", help="Show the run in tensorboard, mlflow, wandb or trackio too; may be repeated."
    ),
]

_PIPED = 1000
"""Columns of a table that no terminal shows: none is wrapped."""
_NOISY = ("nncf", "torch", "onnxscript", "onnx_ir", "matplotlib", "lightning", "lightning.fabric", "openvino")


def with_trackers(overrides: list[str] | None, track: list[str] | None) -> list[str]:
    """The changes of the recipe, with the trackers that `--track` names."""
    return [*(overrides or ()), *([f"track=[{', '.join(track)}]"] if track else ())]


def adder(example: str, summary: str) -> Callable[[Callable[..., Any]], Callable[[typer.Typer], None]]:
    """Decorator of a verb's function: makes the `enter(app)` that puts it on the command line."""

    def decorate(function: Callable[..., Any]) -> Callable[[typer.Typer], None]:
        def enter(app: typer.Typer) -> None:
            name = function.__name__.rstrip("_")
            app.command(name, help=summary, epilog=f"Example: [bold]{example}[/]")(function)

        return enter

    return decorate


class Work:
    """One verb at work: `reporter` to tell progress, `answer` to say the result."""

    def __init__(self, reporter: Watched, stdout: TextIO, as_json: bool) -> None:
        self.reporter = reporter
        self.stdout = stdout
        self.as_json = as_json

    def say(self, piece: str) -> None:
        """Write a piece of a text for people as soon as it is there; nothing where the answer is JSON."""
        if not self.as_json:
            self.reporter.close()
            self.stdout.write(piece)
            self.stdout.flush()

    def answer(self, record: Any, draw: Callable[[Any], None]) -> None:
        """Print `record` as JSON, or let `draw` write it for people on a rich console."""
        self.reporter.close()
        if self.as_json:
            from niwaki.core.store import jsonable

            unicode = (self.stdout.encoding or "").lower().startswith("utf")
            text = json.dumps(jsonable(record), ensure_ascii=not unicode, allow_nan=False)
            self.stdout.write(text + "\n")
        else:
            from rich.console import Console

            piped = not self.stdout.isatty()  # whoever reads a pipe wraps by itself, or greps
            draw(Console(file=self.stdout, highlight=False, soft_wrap=piped, width=_PIPED if piped else None))
        self.stdout.flush()


@contextmanager
def at_work(as_json: bool) -> Iterator[Work]:
    """Progress on stderr; stdout belongs to the answer, so what libraries print there is dropped (kept when
    debugging)."""
    debug = bool(os.environ.get("NIWAKI_DEBUG"))
    reporter = watched(True)
    assert reporter is not None
    stdout = sys.stdout
    stray = sys.stderr if debug else open(os.devnull, "w")  # noqa: SIM115  (closed below)
    if not debug:
        warnings.simplefilter("ignore")
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
    sys.stdout = stray
    try:
        yield Work(reporter, stdout, as_json)
    finally:
        reporter.close()
        sys.stdout = stdout
        if stray is not sys.stderr:
            stray.close()
