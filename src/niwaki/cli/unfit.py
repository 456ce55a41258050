"""What stands under a verb's answer where no extractor that looked is fit for the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from niwaki.evaluation.extractor_checks.unfit import unfit_words

__all__ = ["draw_unfit"]


def draw_unfit(console: Console, found: Mapping[str, Any]) -> None:
    """In words; nothing where one is fit, or none was tried."""
    if words := unfit_words(found.get("fitness") or {}):
        console.print(f"[bold yellow]unfit[/]   {escape(words)}")
