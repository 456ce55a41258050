"""From the words of a call to an exit status: 0 done, 1 the work failed, 2 the call was wrong, 130
interrupted.

Every error is one line on stderr. `NIWAKI_DEBUG=1` shows the traceback instead.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["VERBS", "app", "main"]

VERBS = (
    "run",
    "train",
    "sample",
    "evaluate",
    "compare",
    "compress",
    "search",
    "export",
    "use",
    "filter",
    "serve",
    "studio",
    "tune",
    "watch",
    "detect",
    "preferences",
    "report",
    "runs",
    "models",
    "doctor",
)

app = typer.Typer(
    name="niwaki",
    help="Trains generative models, measures them, makes them small, proves that less than a margin is lost.",
    epilog="Begin with: niwaki run digits-gan",
    add_completion=True,
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from niwaki import __version__

        typer.echo(f"niwaki {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", "-V", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    pass


for _verb in VERBS:
    importlib.import_module(f"niwaki.cli.{_verb}").enter(app)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one call and leave the process with its exit status."""
    sys.exit(status(list(sys.argv[1:] if argv is None else argv)))


def status(argv: list[str]) -> int:
    """Run one call; the exit status. Errors are told on stderr (and, under `--json`, as an object on
    stdout)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show is written as \uXXXX
            stream.reconfigure(errors="backslashreplace")
    try:
        _know_the_verb(argv)
        result = app(args=argv, prog_name="niwaki", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _tell("interrupted; what was finished is kept", 130, argv)
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        text, code = _explain(error)
        if os.environ.get("NIWAKI_DEBUG") and code != 2:
            raise
        return _tell(text, code, argv)


def _know_the_verb(argv: list[str]) -> None:
    verb = next((word for word in argv if not word.startswith("-")), None)
    if argv and verb == argv[0] and verb not in VERBS:
        from niwaki_runtime.errors import CallError, nearest

        raise CallError(f"there is no verb '{verb}'; {nearest(verb, VERBS)}")


_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def _explain(error: Exception) -> tuple[str, int]:
    """One sentence and the exit status of an exception."""
    from niwaki_runtime.errors import CallError, NiwakiError, is_full

    if isinstance(error, CallError):
        return str(error), 2
    if isinstance(error, NiwakiError):
        return str(error), 130 if type(error).__name__ == "Interrupted" else 1
    if hasattr(error, "format_message") and hasattr(
        error, "exit_code"
    ):  # typer's own: a wrong option, a missing word
        place = getattr(getattr(error, "ctx", None), "command_path", "niwaki")
        return f"{error.format_message().rstrip('.')}; `{place} --help` shows how", 2
    if type(error).__name__ == "Abort":
        return "interrupted; what was finished is kept", 130
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        full = "; free some space, then run it again: what was finished is kept" if is_full(error) else ""
        return f"{name}{error.strerror or error}{full}", 1
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NO_MEMORY):
        return "there is not enough memory for this; try a smaller train.batch or a smaller model", 1
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    place, own = _where(error)
    whose = "a defect of niwaki, please report it" if own else "an error in code that niwaki called"
    return f"{whose} ({what}, {place}); NIWAKI_DEBUG=1 shows more", 1


def _where(error: Exception) -> tuple[str, bool]:
    """The last line that is neither a library's nor Python's own, and whether it is niwaki's."""
    import sysconfig
    import traceback

    root = str(Path(__file__).resolve().parents[1])
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    installed = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib"))
    mine = [(file, line) for file, line in frames if file.startswith(root) or not file.startswith(installed)]
    file, line = mine[-1] if mine else frames[-1]
    return f"{file}:{line}", file.startswith(root) or "niwaki_runtime" in file


def _tell(text: str, code: int, argv: list[str]) -> int:
    print("niwaki: " + " ".join(text.split()), file=sys.stderr)
    if "--json" in argv:
        record: dict[str, Any] = {"error": text, "status": code}
        print(json.dumps(record))
    return code
