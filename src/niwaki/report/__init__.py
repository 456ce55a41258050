"""The report: one self-contained page that says in words and pictures what a run came to."""

from __future__ import annotations

from niwaki.report.write import write_report

__all__ = ["write_report"]
