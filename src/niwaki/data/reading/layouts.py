"""What an array of samples is, by its shape: the rules, in one table, and what must be asked.

| shape | read as |
|---|---|
| `(n, d)` | vectors |
| `(n, T)` whole numbers wider than a byte, none below 0 | sequences of tokens |
| `(n, a, b)` uint8 | grey images `(n, H, W)` |
| `(n, a, b)` floats, b at least 4 a | series `(n, C, T)` |
| `(n, a, b)` floats, a at least 4 b | must be said: series `NTC`, or images |
| `(n, a, b)` floats, else | grey images `(n, H, W)` |
| four axes | images; the axis of 1, 3 or 4 is that of the channels |
| five axes | videos; the axis of 1, 3 or 4 is that of the channels |

`modality` and `layout` overrule it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from niwaki.core.contract import CallError
from niwaki.data.audit import Finding
from niwaki.data.reading.ranges import SIGNED, UNIT, Bounds

__all__ = ["RANGES", "Layout", "Modality", "arranged"]

Modality = Literal["vector", "image", "series", "audio", "video", "text"]
Layout = Literal["NCHW", "NHWC", "NCT", "NTC", "NTCHW", "NCTHW", "NTHWC"]

RANGES: dict[str, tuple[Bounds, ...]] = {
    "image": (UNIT, SIGNED),
    "video": (UNIT, SIGNED),
    "audio": (SIGNED,),
}
"""What has a range of values by its nature, and which; vectors and series are kept in their own units."""

CHANNELS = (1, 3, 4)
TOKENS = 1 << 20  # more than any vocabulary has
LONG = 4  # times as many steps as channels from which on floats are taken for series

_WANTED: dict[str, tuple[str, ...]] = {
    "vector": ("NC",), "image": ("NHW", "NCHW"), "series": ("NT", "NCT"), "audio": ("NT", "NCT"),
    "video": ("NTCHW",), "text": ("NT",),
}  # fmt: skip
"""How samples of a modality are kept, by number of axes."""

_WORDS = {2: "vectors and tokens have 2 axes", 3: "series and grey images 3", 4: "images 4", 5: "videos 5"}


def arranged(
    x: np.ndarray, path: str, modality: Modality | None, layout: Layout | None
) -> tuple[np.ndarray, Modality, list[Finding]]:
    """The samples with their axes in the order of the modality, the modality, and what was assumed.

    Raises CallError for an empty array, other numbers of axes, and where the shape does not tell.
    """
    if x.ndim < 2 or 0 in x.shape:
        raise CallError(f"'{path}': samples must be an array (n, …) that is not empty, not {x.shape}")
    if x.ndim not in _WORDS:
        raise CallError(f"'{path}': {x.ndim} axes are too many; {', '.join(_WORDS.values())}")
    if layout and len(layout) != x.ndim:
        raise CallError(f"data.layout={layout} has {len(layout)} axes, and '{path}' holds {x.shape}")
    kind = modality or _modality(x, path, layout)
    wanted = next((axes for axes in _WANTED[kind] if len(axes) == x.ndim), None)
    if wanted is None:
        shapes = " or ".join(f"({', '.join(axes)})" for axes in _WANTED[kind])
        raise CallError(f"data.modality={kind} needs {shapes}, and '{path}' holds {x.shape}")
    if layout and set(layout) != set(wanted):
        raise CallError(f"data.layout={layout} is not of {kind} samples, which are {wanted}")
    found = layout or _layout(x, wanted, path)
    ordered = x.transpose([found.index(axis) for axis in wanted])
    if wanted == "NHW":
        ordered = ordered[:, None]
    if kind == "text" and modality is None:
        text = f"{x.dtype} {x.shape} is read as sequences of tokens; data.modality=vector reads amounts"
        return ordered, kind, [Finding("note", "shapes", text)]
    assumed = (modality is None and x.ndim == 3 and not layout) or (not layout and x.ndim > 3)
    if not assumed:
        return ordered, kind, []
    names = {"NHW": "grey images (n, height, width)", "NCT": "series (n, channels, time)"}
    text = f"{x.shape} is read as {names.get(found, found)}; set data.layout to say otherwise"
    if x.ndim == 3:
        text = f"{x.shape} is read as {names[found]}; set data.modality to say otherwise"
    return ordered, kind, [Finding("note", "shapes", text)]


def _modality(x: np.ndarray, path: str, layout: str | None) -> Modality:
    """What the shape (or the layout) says. Raises CallError where it says nothing."""
    if layout in ("NCT", "NTC"):
        return "series"
    if x.ndim == 2 and x.dtype.kind in "iu" and x.dtype.itemsize > 1 and x.min() >= 0 and x.max() < TOKENS:
        return "text"
    if x.ndim != 3:
        kinds: dict[int, Modality] = {2: "vector", 4: "image", 5: "video"}
        return kinds[x.ndim]
    _, first, second = x.shape
    if x.dtype == np.uint8:
        return "image"
    if second >= LONG * first:
        return "series"
    if first >= LONG * second:
        raise CallError(
            f"the shape {x.shape} of '{path}' does not tell what it is; set data.modality=image, or "
            "data.layout=NTC for series with the time first (NCT: channels first)"
        )
    return "image"


def _layout(x: np.ndarray, wanted: str, path: str) -> str:
    """Which axis is which, where nobody said: by the axis that is as long as channels are.

    Raises CallError where none or several are.
    """
    possible = {"NCHW": ("NCHW", "NHWC"), "NTCHW": ("NTCHW", "NCTHW", "NTHWC")}.get(wanted)
    if possible is None:
        return wanted
    fit = [axes for axes in possible if x.shape[axes.index("C")] in CHANNELS]
    if len(fit) != 1:
        raise CallError(
            f"the shape {x.shape} of '{path}' does not tell where the channels are; "
            f"set data.layout={' or '.join((', '.join(possible[:-1]), possible[-1]))}"
        )
    return fit[0]
