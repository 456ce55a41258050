"""The bundle as it is: what every other target is written from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.core.store import atomic_directory, copy_file
from niwaki.deployment.targets.target import Target, register_target

__all__ = ["BundleTarget"]


@register_target("bundle")
class BundleTarget(Target):
    """A copy where `out` is another place."""

    suffix = ".niwaki"

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """Raises CallError where a bundle of the other form (a directory, a file) is at `out`."""
        if out.resolve() == bundle.resolve():
            return {"bundle": out}
        if out.exists() and out.is_dir() != bundle.is_dir():
            raise CallError(f"{out} is there and of another kind than {bundle}; name another place")
        if bundle.is_dir():
            with atomic_directory(out) as directory:
                shutil.copytree(bundle, directory, dirs_exist_ok=True)
        else:
            copy_file(bundle, out)
        return {"bundle": out}
