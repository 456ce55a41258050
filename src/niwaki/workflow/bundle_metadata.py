"""What was found out about a bundle is written into it: figures, verdict, provenance. Its graphs stay byte
for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from niwaki.core.store import jsonable, write_text
from niwaki.deployment.card import card
from niwaki_runtime.archive import pack, unpack
from niwaki_runtime.manifest import write_manifest
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["write_bundle_metadata"]


def write_bundle_metadata(
    bundle: Path,
    out: Path,
    *,
    name: str,
    measured: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write the zip `bundle` again as `out`, called `name`, with these records in its manifest and its card.
    Whole or not at all; `out` may be `bundle` itself.

    Raises BundleError where `bundle` is broken.
    """
    with scratch_directory() as directory:
        manifest = replace(
            unpack(bundle, directory),
            name=name,
            measured=jsonable(measured or {}),
            verdict=jsonable(verdict or {}),
            provenance=jsonable(provenance or {}),
        )
        write_text(directory / "card.md", card(manifest))
        write_manifest(directory, manifest)
        return pack(directory, out)
