"""Which engine runs a bundle: what is installed, what the bundle says of it, and how much memory there is."""

from __future__ import annotations

from niwaki_runtime.engines import available, resolve_engine
from niwaki_runtime.errors import NiwakiError
from niwaki_runtime.manifest import Manifest

__all__ = ["choose_engine"]


def choose_engine(engine: str, manifest: Manifest) -> str:
    """The engine that is asked for, or for `auto` the preferred one that is installed and runs the bundle.

    Raises NiwakiError where the bundle says that the engine cannot run it, CallError for an unknown name.
    """
    asked = resolve_engine(engine)
    able = [name for name in available() if name not in manifest.refused]
    if engine != "auto":
        if asked in manifest.refused:
            way = f"use engine='{able[0]}'" if able else "install another engine"
            raise NiwakiError(f"this bundle does not run on {asked}: {manifest.refused[asked]}; {way}")
        return asked
    if not able:
        reasons = "; ".join(f"{name}: {why}" for name, why in manifest.refused.items())
        raise NiwakiError(f"no installed engine runs this bundle ({reasons}); install another engine")
    return able[0]
