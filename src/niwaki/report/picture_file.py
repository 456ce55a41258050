"""A picture of matplotlib's as a file, whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from niwaki.core.store import write_bytes

__all__ = ["write_picture"]


def write_picture(figure: Any, out: Path, dpi: int = 120) -> Path:
    """In the form that the file's ending names; the same figure gives the same bytes."""
    form, data = out.suffix.lower().removeprefix("."), io.BytesIO()
    figure.savefig(data, format=form, dpi=dpi, metadata={"Date": None} if form == "svg" else None)
    write_bytes(out, data.getvalue())
    return out
