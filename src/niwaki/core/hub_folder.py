"""A folder of safetensors as the hub keeps it: found, fetched by name, and read without noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from niwaki.core.paths import expanded
from niwaki_runtime.errors import CallError, NiwakiError

__all__ = ["PICKLES", "fetched", "folder_of", "package", "quiet", "refuse_pickle"]

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that may hold pickles, which can run any program when they are read."""


def folder_of(source: str, files: Sequence[str], refuse_pickle: Callable[[Path], None], who: str) -> Path:
    """Where the files lie; those of a hub name are fetched, or taken from the hub's cache.

    files:         patterns of what is fetched
    refuse_pickle: raises CallError, with the way out, where a file holds pickled weights
    who:           what says it needs the hub, for `package`
    Raises CallError for a file or a folder that is not there, NiwakiError where no weights can be had.
    """
    path = expanded(source)
    refuse_pickle(path)
    if path.is_file():
        raise CallError(f"'{path}' is a file; name the folder that holds config.json and model.safetensors")
    if not path.is_dir():
        if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
            raise CallError(f"there is no folder '{path}'")
        path = fetched(source, files, who)
    if not any(path.glob("*.safetensors")):
        for file in sorted(path.glob("pytorch_model*")) + sorted(path.iterdir()):
            refuse_pickle(file)
        raise NiwakiError(f"there are no weights in '{source}': model.safetensors is missing")
    return path


def fetched(name: str, files: Sequence[str], who: str) -> Path:
    """The folder of a hub name, downloaded or from the hub's cache.

    files: patterns of what is fetched
    Raises CallError where the package that fetches is missing, NiwakiError where the folder cannot be had.
    """
    hub = package("huggingface_hub", who)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # the client raises whatever its transport raises
        raise NiwakiError(
            f"'{name}' is not a folder here and could not be had from the hub: there is no network, no model "
            "of that name, or no access to it; fetch it elsewhere with "
            f"`hf download {name} --local-dir FOLDER` and name that folder"
        ) from error


def package(name: str, who: str) -> Any:
    """The package, imported where it is needed, for that takes seconds. Raises CallError where it is missing.

    who: begins the sentence: "language models are read"
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise CallError(
            f"{who} by the package '{name}', which is not installed: pip install 'niwaki[hub]'"
        ) from error


@contextmanager
def quiet(library: Any, level: int) -> Iterator[None]:
    """Without the bars of diffusers or transformers, and without reports below `level`: what matters of them
    is raised by the caller."""
    logging = library.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(level)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def refuse_pickle(path: Path) -> None:
    """Raises CallError, with the way out, where `path` is a file of pickled weights by its name."""
    if path.suffix.lower() not in PICKLES or path.is_dir():
        return
    made = path.with_name("model" if path.name == "pytorch_model.bin" else path.stem)
    raise CallError(
        f"'{path}' holds pickled weights, and a pickle can run any program when it is read; convert it once "
        "and name what comes out: "
        'python -c "import torch; from safetensors.torch import save_file; '
        "save_file({k: v.clone().contiguous() for k, v in "
        f"torch.load('{path}', weights_only=True).items()}}, '{made}.safetensors', {{'format': 'pt'}})\""
    )
