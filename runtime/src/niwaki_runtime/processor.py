"""What the processor can do, as its kernel says it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["processor_flags"]


def processor_flags() -> set[str] | None:
    """Flags in Linux's words (`avx2`, `avx512_vnni`, `asimddp` …); None where a system says none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    named = (line.partition(":") for line in lines)
    return next((set(flags.split()) for key, _, flags in named if key.strip() in ("flags", "Features")), None)
