"""What a judge shows beside its figures: a few items as their modality shows them, ready for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from niwaki.modalities import modality_of
from niwaki.modalities.drawing import fan
from niwaki_runtime.specs import ValueSpec

__all__ = ["exhibit", "forecast_fan", "passages"]


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


def forecast_fan(caption: str, past: np.ndarray, truth: np.ndarray, quantiles: np.ndarray) -> dict[str, Any]:
    """The past `(P,)`, what came `(T,)`, and three quantiles of its forecast `(3, T)` in one plot."""
    return _of(caption, [("plot", "", fan(past, truth, quantiles))])


def passages(caption: str, texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Texts side by side: (what it is, the text) each."""
    return _of(caption, [("text", label, text) for label, text in texts])


def _of(caption: str, made: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    media = [{"label": label, "kind": kind, "data": data, "also": ""} for kind, label, data in made]
    return {"caption": caption, "media": media}
