"""Which engine runs a bundle: what is installed, what the bundle says of it, and how much memory there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from niwaki_runtime.engines import available, engine_memory, resolve_engine
from niwaki_runtime.errors import CallError, NiwakiError
from niwaki_runtime.manifest import Manifest

__all__ = ["choose_engine", "engine_beforehand", "memory_bytes", "needed_memory"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}

_PER_BYTE = 2.0
"""Peak bytes per byte of the networks' files, measured on both engines (1.5 … 2): the file and what is made
of it are there together."""


def choose_engine(engine: str, manifest: Manifest, memory: int | str | None = None) -> str:
    """The engine that is asked for, or for `auto` the preferred one that is installed, runs the bundle and is
    expected to need no more than `memory` (`needed_memory`).

    Raises NiwakiError where there is none, CallError for an unknown name and for an amount that is none.
    """
    asked = resolve_engine(engine)
    able = [name for name in available() if name not in manifest.refused]
    if engine != "auto":
        if asked in manifest.refused:
            way = f"use engine='{able[0]}'" if able else "install another engine"
            raise NiwakiError(f"this bundle does not run on {asked}: {manifest.refused[asked]}; {way}")
        able = [asked]
    if not able:
        reasons = "; ".join(f"{name}: {why}" for name, why in manifest.refused.items())
        raise NiwakiError(f"no installed engine runs this bundle ({reasons}); install another engine")
    others = [name for name in available() if name not in manifest.refused]
    return _fitting(
        {name: needed_memory(name, manifest) for name in able}, memory, others, "the bundle needs"
    )


def engine_beforehand(engine: str, memory: int | str | None = None) -> str:
    """The same before there is a bundle, as far as the engines' own memory tells."""
    asked = resolve_engine(engine)
    able = available() if engine == "auto" else [asked]
    return _fitting({name: engine_memory(name) for name in able}, memory, available(), "any bundle needs")


def _fitting(needed: Mapping[str, int], memory: int | str | None, others: Sequence[str], what: str) -> str:
    """The first engine that needs no more than `memory`. Raises NiwakiError where none does, naming one of
    `others` that needs less."""
    most = None if memory is None else memory_bytes(memory)
    for name, size in needed.items():
        if most is None or size <= most:
            return name
    says = " and ".join(f"{n / 1e6:.0f} MB in {name}" for name, n in needed.items())
    smaller = [n for n in others if n not in needed and engine_memory(n) < min(needed.values())]
    way = f"; engine='{smaller[0]}' needs less" if smaller else ""
    raise NiwakiError(
        f"{what} about {says}, more than the {(most or 0) / 1e6:.0f} MB that are given; give more, or prune "
        f"and quantize it further{way}"
    )


def needed_memory(engine: str, manifest: Manifest) -> int:
    """About the peak bytes of loading and sampling, above what importing the engine takes: the engine's own
    code, and twice the networks' files. What a large batch makes on the way comes on top."""
    held = [entry.bytes for name, entry in manifest.files.items() if name.endswith((".onnx", ".bin"))]
    held += [entry.bytes for entry in manifest.packed.values()]
    return engine_memory(engine) + int(_PER_BYTE * sum(held))


def memory_bytes(amount: int | str) -> int:
    """Bytes of `"32MB"`, `"1.5 GiB"`, `"48000000"` or a number. Raises CallError for anything else.

    >>> memory_bytes("32MB")
    32000000
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(amount))
    if isinstance(amount, bool) or not found or found[2].lower() not in _UNITS:
        raise CallError(f"an amount of memory is a number of bytes or a text such as '32MB', not {amount!r}")
    size = int(float(found[1]) * _UNITS[found[2].lower()])
    if size < 1:
        raise CallError(f"memory must be at least one byte, not {amount!r}")
    return size
