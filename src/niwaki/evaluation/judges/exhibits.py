"""What a judge shows beside its figures: a few items as their modality shows them, ready for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from niwaki.modalities import modality_of
from niwaki_runtime.specs import ValueSpec

__all__ = ["exhibit"]


def exhibit(
    caption: str,
    items: Sequence[tuple[str, np.ndarray, ValueSpec]],
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Things that are looked at side by side: (what it is, one sample `(*shape)`, its spec) each.

    Goes into `Section.details["exhibits"]`, a list of these.
    """
    shown = []
    for label, x, spec in items:
        media = modality_of(spec).show(np.asarray(x), spec, files)
        shown.append({"label": label, **vars(media)})
    return {"caption": caption, "media": shown}
