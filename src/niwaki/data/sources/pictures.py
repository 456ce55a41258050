"""Where `read_picture` stood before `niwaki.data.reading`; those who imported it from here still can."""

from __future__ import annotations

from niwaki.data.reading.pictures import read_picture

__all__ = ["read_picture"]
