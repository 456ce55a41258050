"""The command line: one file per verb. Nothing heavy is imported before a verb begins its work."""

from __future__ import annotations

from niwaki.cli.main import main

__all__ = ["main"]
