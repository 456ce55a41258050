"""Answers in other programs' forms, and in ours that a training reads. One file each."""

from __future__ import annotations

from niwaki.evaluation.preferences.exports.export import export_ratings, names_of_exports

__all__ = ["export_ratings", "names_of_exports"]
