"""The same bundle with its weights packed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from niwaki.core.contract import CallError
from niwaki.core.errors import NothingToDo
from niwaki.core.store import replace_directory
from niwaki.deployment.onnx_file import read_onnx
from niwaki.deployment.package import bundle_bytes
from niwaki.deployment.packing import write_packed
from niwaki_runtime import inspect
from niwaki_runtime.archive import pack as zip_bundle
from niwaki_runtime.archive import unpack
from niwaki_runtime.external import external_files
from niwaki_runtime.manifest import write_manifest
from niwaki_runtime.unfinished import partial_directory

__all__ = ["pack_bundle"]


def pack_bundle(bundle: Path | str, out: Path | str) -> Path:
    """Write `bundle` again as `out`, its weights entropy-coded: a zip as a zip, a directory as a directory.

    It samples the same, and its manifest says the same besides. `out` may be `bundle` itself; it is replaced
    when the new one is whole. Raises CallError for a bundle that is packed already, BundleError for a broken
    one, and NiwakiError where the result is no smaller.
    """
    bundle, out = Path(bundle), Path(out)
    manifest = inspect(bundle)
    if manifest.packed:
        raise CallError(f"the weights of {bundle} are packed already")
    files = sorted({graph.file for graph in manifest.graphs.values()})
    if any("/" in file or not file.endswith(".onnx") for file in files):
        raise CallError(f"{bundle} was not written by this program: its graphs are not NAME.onnx at the top")
    before = bundle_bytes(bundle)
    out.parent.mkdir(parents=True, exist_ok=True)
    with partial_directory(out.parent, f".{out.name}.") as temporary:
        directory = temporary / "open"
        if bundle.is_dir():
            shutil.copytree(bundle, directory)
        else:
            directory.mkdir()
            unpack(bundle, directory)
        models = {file.removesuffix(".onnx"): read_onnx(directory / file) for file in files}
        for name in {name for file in files for name in external_files(directory / file)}:
            (directory / name).unlink()
        write_manifest(directory, replace(manifest, packed=write_packed(models, directory)))
        made = directory if bundle.is_dir() else zip_bundle(directory, temporary / "made")
        after = bundle_bytes(made)
        if after >= before:
            raise NothingToDo(f"packing made the bundle no smaller: {after} bytes, {before} before")
        if out.is_dir():
            replace_directory(made, out)
        else:
            os.replace(made, out)
    return out
