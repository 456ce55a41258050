"""One file out of a bundle, verified: a directory or a zip."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

from niwaki_runtime.errors import BundleError
from niwaki_runtime.manifest import Manifest

__all__ = ["read_member"]


def read_member(path: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a file that the manifest lists. Raises BundleError where it is not what was written."""
    entry = manifest.files[name]
    try:
        if path.is_dir():
            data = (path / name).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive, archive.open(name) as file:
                data = file.read(entry.bytes + 1)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BundleError(f"{name} in {path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"{name} in {path} was changed after it was written; copy the bundle again")
    return data
