"""Pieces of the views: every text that comes in is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from niwaki.modalities import Media

__all__ = ["block", "grey", "media_strip", "table", "title"]

_TONES = {"good": "#2e7d32", "bad": "#c62828", "open": "#b26a00"}
_SIDE = 64
"""Pixels of a small picture's side at least."""


def title(text: str, more: str = "") -> str:
    return f"<b>{escape(text)}</b> <span style='opacity:.6'>{escape(more)}</span>"


def grey(text: str) -> str:
    return f"<div style='opacity:.6'>{escape(text)}</div>" if text else ""


def block(parts: Iterable[str]) -> str:
    """Parts that are HTML already, one under the other."""
    return "<div>" + "".join(f"<div>{part}</div>" for part in parts if part) + "</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], tones: Sequence[str] = ()) -> str:
    """A table of texts, the first column to the left; tones: of each row's last cell."""
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    head = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in header)
    lines = []
    for at, row in enumerate(rows):
        tone = _TONES.get(tones[at] if at < len(tones) else "", "")
        style = (
            f" style='text-align:left;color:{tone};font-weight:600'" if tone else " style='text-align:left'"
        )
        cells = [f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row[:-1]]
        lines.append("".join([*cells, f"<td{style}>{escape(row[-1])}</td>"]))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def media_strip(shown: Iterable[tuple[Media, str]]) -> str:
    """Samples side by side, texts under each other; the second of each pair is a caption."""
    out = []
    for media, caption in shown:
        under = f"<div style='opacity:.6;font-size:smaller'>{escape(caption)}</div>" if caption else ""
        if media.kind == "text":
            text = escape(media.data)
            out.append(f"<pre style='white-space:pre-wrap;margin:.3em 0'>{text}</pre>{under}")
            continue
        picture = media.also or media.data
        drawn = (
            f"<img src='{escape(picture, quote=True)}' alt='{escape(caption, quote=True)}' "
            f"style='min-width:{_SIDE}px;image-rendering:pixelated'>"
        )
        if media.kind == "sound":
            drawn += f"<br><audio controls src='{escape(media.data, quote=True)}'></audio>"
        out.append(
            "<div style='display:inline-block;margin:2px;text-align:center;vertical-align:top'>"
            f"{drawn}{under}</div>"
        )
    return "".join(out)
