"""A bundle in one file: a zip of its directory, equal bytes for equal content, and how to open it safely."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path

from niwaki_runtime.errors import BundleError, NiwakiError, first_line, is_full
from niwaki_runtime.manifest import MANIFEST, FileEntry, Manifest, read_manifest, safe_path
from niwaki_runtime.unfinished import partial_file

__all__ = ["pack", "unpack"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip knows: the archive depends on its content alone
_MANIFEST_LIMIT = 16 << 20  # bytes; real manifests have a few thousand


def pack(directory: Path | str, out: Path | str) -> Path:
    """Zip the bundle in `directory` into the file `out`: whole or not at all, the same bytes every time.

    Raises NiwakiError where `out` cannot be written.
    """
    directory, out = Path(directory), Path(out)
    manifest = read_manifest((directory / MANIFEST).read_bytes())
    coded = {p.file for p in manifest.packed.values()}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            partial_file(out) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for name in (MANIFEST, *sorted(manifest.files)):
                entry = zipfile.ZipInfo(name, _EPOCH)
                # What is entropy-coded already would not shrink again.
                entry.compress_type = zipfile.ZIP_STORED if name in coded else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with open(directory / name, "rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except OSError as error:
        raise NiwakiError(
            f"{out} could not be written: {error.strerror or error}; what was there is unchanged"
        ) from error
    return out


def unpack(path: Path, directory: Path) -> Manifest:
    """Extract the bundle in the zip `path` into the empty `directory`.

    Only files that the manifest lists are written, each under its checked name, and never more bytes than the
    manifest promises; packed weights stay packed. Raises BundleError for a zip that swells, lacks a file, or
    names one outside, NiwakiError where there is no space for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                safe_path(name.rstrip("/")) if name != MANIFEST else None
            if len(set(names)) != len(names):
                raise BundleError(f"{path} holds a file twice; export the bundle again")
            if MANIFEST not in names:
                raise BundleError(f"{path} holds no {MANIFEST}; it is not a niwaki bundle")
            with archive.open(MANIFEST) as file:
                data = file.read(_MANIFEST_LIMIT + 1)
            if len(data) > _MANIFEST_LIMIT:
                raise BundleError(f"{path}: its manifest is larger than any real one; do not trust it")
            manifest = read_manifest(data)
            (directory / MANIFEST).write_bytes(data)
            for name, entry in manifest.files.items():
                if name not in names:
                    raise BundleError(f"{path} lacks {name}; copy or export the bundle again")
                _extract(archive, name, entry, directory)
            return manifest
    except OSError as error:
        if is_full(error):
            raise NiwakiError(f"{path} could not be unpacked into {directory}: {error.strerror}") from error
        raise BundleError(f"{path} cannot be read ({error}); copy or export the bundle again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path} is a broken zip ({first_line(error)}); copy or export the bundle again"
        ) from error


def _extract(archive: zipfile.ZipFile, name: str, entry: FileEntry, directory: Path) -> None:
    """One file, at most as long as the manifest says, whatever the zip's own headers claim."""
    target = directory.joinpath(*safe_path(name).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.bytes
    with archive.open(name) as source, open(target, "wb") as file:
        while chunk := source.read(min(1 << 20, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BundleError(
                    f"{name} unpacks to more than the {entry.bytes} bytes its manifest promises"
                )
            file.write(chunk)
    if left:
        raise BundleError(f"{name} is {left} bytes shorter than its manifest promises; copy the bundle again")
