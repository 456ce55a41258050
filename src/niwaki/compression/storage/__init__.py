"""Fewer bytes on disk: shared weights and entropy-coded storage."""
