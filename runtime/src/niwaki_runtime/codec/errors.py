"""What can go wrong with a coded file."""

from __future__ import annotations

from niwaki_runtime.errors import NiwakiError

__all__ = ["CodecError"]


class CodecError(NiwakiError):
    """A coded file is damaged, cut short, or another model's."""
