"""The names that users of the Hugging Face hub know: `from_pretrained`, `save_pretrained`, `push_to_hub`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from niwaki.api.sample import sample
from niwaki.core.contract import NiwakiError
from niwaki.modalities import modality_of
from niwaki.workflow.hub.folder import bundle_of, write_folder
from niwaki.workflow.hub.transfer import download, upload
from niwaki_runtime import Bundle
from niwaki_runtime import load as load_bundle

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]

_SAMPLES, _COLUMNS = 16, 8


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    engine: str = "auto",
    precision: str = "fast",
    threads: int | None = None,
) -> Bundle:
    """The bundle in a folder that `save_pretrained` wrote, or of `USER/NAME` on the hub.

    revision: of the hub: a branch, a tag or a commit
    engine, precision, threads: as for `niwaki_runtime.load`
    Raises CallError for what is neither, NiwakiError where it cannot be had, BundleError where it is broken.
    """
    path = Path(name)
    if not path.exists():
        path = download(str(name), revision)
    return load_bundle(path, engine=engine, precision=precision, threads=threads)


def save_pretrained(what: str | Path, folder: str | Path, *, license: str | None = None) -> Path:
    """Write the bundle of a run, or a bundle, as a folder of the hub: manifest and graphs, a README with
    `model-index`, `config.json`, and some samples as a picture where they can be drawn.

    license: an identifier of the hub (`mit`, `cc-by-4.0`, `other` …)
    Raises CallError where there is no bundle, or the folder holds other things; BundleError for a broken one.
    """
    return write_folder(what, folder, picture=_picture(bundle_of(what)), license=license)


def push_to_hub(
    what: str | Path,
    name: str,
    *,
    license: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload the bundle of a run, or a bundle, as `USER/NAME` (the layout of `save_pretrained`); returns the
    address of the commit.

    token:    default: that of `hf auth login` or of HF_TOKEN
    revision: a branch to commit to
    Raises CallError as `save_pretrained`, NiwakiError where the hub refuses or is out of reach.
    """
    with tempfile.TemporaryDirectory(prefix="niwaki-") as directory:
        folder = save_pretrained(what, Path(directory) / "bundle", license=license)
        return upload(folder, name, private=private, token=token, revision=revision, message=message)


def _picture(bundle: Path) -> bytes | None:
    """None where samples are no pictures, or need inputs that a bundle alone does not have."""
    try:
        made = sample(bundle, _SAMPLES)
    except NiwakiError:
        return None
    return modality_of(made.spec).rows(made.x, made.spec, _COLUMNS)
