"""A bundle laid out as a folder of the hub. It is a bundle like any other: every verb and
`niwaki_runtime.load` take it."""

from __future__ import annotations

import shutil
from pathlib import Path

from niwaki.core.errors import CallError
from niwaki.core.store import atomic_directory, write_bytes, write_json, write_text
from niwaki.workflow.hub.measured_risks import measured_risks
from niwaki.workflow.hub.model_card import PICTURE, model_card
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.runs.listing import line_of
from niwaki.workflow.subjects.subject import is_bundle
from niwaki_runtime import inspect
from niwaki_runtime.archive import unpack
from niwaki_runtime.manifest import MANIFEST

__all__ = ["bundle_of", "write_folder"]

_CONFIG = "config.json"
"""By it the hub counts downloads."""


def bundle_of(what: str | Path) -> Path:
    """The bundle of a run, or the bundle itself. Raises CallError where there is none."""
    path = Path(what)
    if is_run(path):
        bundle = RunDirectory.open(path).bundle
        if not bundle.exists():
            raise CallError(f"{path} holds no bundle yet; run `niwaki run {path}` or `niwaki export {path}`")
        return bundle
    if not is_bundle(path):
        raise CallError(f"{path} is neither a run nor a bundle")
    return path


def write_folder(
    what: str | Path, folder: str | Path, *, picture: bytes | None = None, license: str | None = None
) -> Path:
    """Manifest and graphs of a bundle, a README, a `config.json`, a picture of some samples. Whole or not at
    all; the folder of an earlier call is replaced.

    what:    a run or a bundle
    picture: a PNG file's bytes
    license: an identifier of the hub (`mit`, `cc-by-4.0`, `other` …)
    Raises CallError where there is no bundle, or the folder holds other things; BundleError for a broken
    bundle.
    """
    bundle, folder = bundle_of(what), Path(folder)
    if not _is_free(folder):
        raise CallError(f"{folder} holds other things than a bundle; choose an empty or a new folder")
    manifest = inspect(bundle)
    figures = line_of(Path(what)).figures if is_run(what) else {}
    results = [{"name": name, **figure} for name, figure in figures.items()]
    risks = measured_risks(Path(what)) if is_run(what) else []
    text = model_card(
        manifest, results=results, license=license, picture=picture is not None, risks=risks
    )  # fmt: skip
    with atomic_directory(folder) as made:
        if bundle.is_dir():
            for name in (MANIFEST, *manifest.files):
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / name, made / name)
        else:
            unpack(bundle, made)
        if picture is not None:
            write_bytes(made / PICTURE, picture)
        about = {"library_name": "niwaki", "niwaki": manifest.niwaki, "modality": manifest.spec.modality}
        write_json(made / _CONFIG, {"name": manifest.name, **about})
        write_text(made / "README.md", text)
    return folder


def _is_free(folder: Path) -> bool:
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    return not any(folder.iterdir()) or ((folder / MANIFEST).is_file() and (folder / _CONFIG).is_file())
