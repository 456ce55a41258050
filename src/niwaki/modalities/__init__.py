"""What differs by modality and nothing else: writing, showing, planted damage, default features."""

from __future__ import annotations

from niwaki.modalities.base import Media, Modality, modality_of, register_modality

__all__ = ["Media", "Modality", "modality_of", "register_modality"]
